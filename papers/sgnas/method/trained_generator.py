"""A trained generator with what belongs to it: its files, the published one, and what it gives for a target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from common.data.pins import verified_path
from common.errors import UserError
from common.run.files import read_json, write_json
from common.weights.read import load_strict, load_tensors, save_weights
from papers.sgnas.method.generator import Generator
from papers.sgnas.method.generator_training import generate_ops, target_pool
from papers.sgnas.method.lookup import MFLOPS, Lookup, lookup_from, macs_table, one_hot
from papers.sgnas.method.prior import PriorPool, pool_from, read_pool
from papers.sgnas.networks.architectures import MACROS, SPACE, Kernels, Macro, Ops, kernels_of, macro_for
from papers.sgnas.settings import AUTHORS_FILES

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


@dataclass(frozen=True)
class TrainedGenerator:
    """A trained generator with what belongs to it."""

    network: Generator
    pool: PriorPool
    macro: Macro
    lookup: Lookup
    source: str

    @torch.no_grad()
    def logits(self, targets: list[float]) -> torch.Tensor:
        """[T, L, 6, 4]."""
        return self.network(*self.pool.inputs(targets))

    def ops(self, targets: list[float]) -> list[tuple[Ops, float]]:
        """(operation indices, look-up cost) for each target, in one pass."""
        ops = generate_ops(self.network, self.pool, targets)
        return list(zip(ops.tolist(), self.lookup.cost(one_hot(ops)).tolist(), strict=True))

    def kernels(self, targets: list[float]) -> list[tuple[Kernels, float]]:
        """(kernel lists, look-up cost) for each target, in one pass."""
        return [(kernels_of(row), cost) for row, cost in self.ops(targets)]

    def hit(self, budget: float) -> tuple[Kernels, float]:
        """The generated architecture whose cost is nearest to a budget, over a fine scan of the range."""
        scan = np.linspace(self.pool.low, self.pool.high, 361).tolist()
        return min(self.kernels(scan), key=lambda found: abs(found[1] - budget))

    def save(self, folder: Path) -> None:
        """Write generator.safetensors, and generator.json: what ``load_generator`` needs beside the weights."""
        about = {
            "schema": 1,
            "space": SPACE,
            "macro": self.macro.name,
            "input_size": self.macro.input_size,
            "shape": self.network.shape,
            "pool": self.pool.to_json(),
            "table": None if self.lookup.unit == MFLOPS else self.lookup.to_json(),  # else the macro structure's own
        }
        save_weights(self.network, folder / "generator.safetensors")
        write_json(folder / "generator.json", about)


def load_generator(
    source: str, prior_pool: str = "", options: RunOptions | None = None, data: Path | None = None
) -> TrainedGenerator:
    """A generator by name or path (see ``settings.OfAGenerator``). Raises UserError.

    ``data`` gives the data root where there are no run options.
    """
    if source == "published":
        return _load_published(options if data is None else _Root(data))
    path = Path(source)
    path = path / "generator.safetensors" if path.is_dir() else path
    if path.suffix in AUTHORS_FILES:
        return _load_authors(path, prior_pool)
    if not path.exists() and not path.with_suffix(".json").exists():
        raise UserError(
            f"no generator {source!r}; give published, a finished search's folder, or its generator.safetensors"
        )
    about = read_json(path.with_suffix(".json"))
    if not isinstance(about, dict) or about.get("space") != SPACE:
        raise UserError(f"{path} is not a generator of space {SPACE!r}; give the folder of a finished search")
    macro = macro_for(about["macro"], about["input_size"])
    pool = pool_from(about["pool"], str(path.with_suffix(".json")))
    lookup = lookup_from(about["table"]) if about["table"] else macs_table(macro)
    pool.check(pool.low, pool.high, lookup)
    network = Generator(**about["shape"])
    load_strict(network, load_tensors(path))
    return TrainedGenerator(network.eval(), pool, macro, lookup, source)


@dataclass(frozen=True)
class _Root:
    data: Path
    allow_unpinned: bool = False


def _load_published(options: RunOptions | _Root | None) -> TrainedGenerator:
    weights = verified_path("sgnas", "generator_imagenet.npz", options).path
    prior = verified_path("sgnas", "prior_pool.json", options).path
    with np.load(weights, allow_pickle=False) as arrays:
        tensors = {name: torch.from_numpy(arrays[name].copy()) for name in arrays.files}
    return _imagenet(tensors, read_pool(prior, 270.0, 450.0), "published")


def _load_authors(path: Path, prior_pool: str) -> TrainedGenerator:
    """The authors' file, {model, optimzier}, in torch's legacy format with CUDA storages."""
    tensors = load_tensors(path)
    tensors = tensors.get("model", tensors)
    pool = read_pool(Path(prior_pool) if prior_pool else path.parent / "prior_pool.json", 270.0, 450.0)
    return _imagenet(tensors, pool, str(path))


def _imagenet(tensors: dict[str, torch.Tensor], pool: PriorPool, source: str) -> TrainedGenerator:
    network = Generator()
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != expected:
        raise UserError(f"{source} is not a generator of this space: its tensors have other names or shapes")
    network.load_state_dict(tensors)
    macro = MACROS["imagenet"]
    lookup = macs_table(macro)
    pool.check(pool.low, pool.high, lookup)
    return TrainedGenerator(network.eval(), pool, macro, lookup, source)


def range_warning(trained: TrainedGenerator, target: float) -> str:
    """What to expect of a target outside the generator's range; empty inside it."""
    low, high = trained.pool.low, trained.pool.high
    if low <= target <= high:
        return ""
    unit = trained.lookup.unit
    here = trained.kernels([target])[0][1]
    inside = [cost for _, cost in trained.kernels(target_pool(low, high, (high - low) / 36))]
    return (
        f"target {target:g} is outside the trained range {low:g} to {high:g} {unit}, where the answer saturates or "
        f"turns round: it gives {here:.1f} {unit}; inside the range {min(inside):.1f} to {max(inside):.1f} are reached"
    )
