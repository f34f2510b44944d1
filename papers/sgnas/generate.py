"""Architectures for any number of constraints in one forward pass: the paper's deployment step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.cli.errors import UserError
from common.cli.ranges import refuse_idle
from common.data.pins import verified_path
from common.run.files import read_json, write_json
from common.spaces.architecture import save_architecture
from common.train import distributed
from papers.sgnas.describe import counts
from papers.sgnas.method.generator import Generator, normalise
from papers.sgnas.method.generator_training import generate_ops, target_pool
from papers.sgnas.method.lookup import Lookup, cost_range, macs_table, one_hot
from papers.sgnas.method.prior import PriorPool, pool_from, read_pool
from papers.sgnas.network.architectures import MACROS, Kernels, Macro, Ops, kernels_of, macro_for
from papers.sgnas.settings import GenerateSettings

SPACE = "sgnas"
AUTHORS = (".pth", ".pt", ".tar")  # their file of a generator


@dataclass(frozen=True)
class LoadedGenerator:
    """A trained generator with what belongs to it."""

    network: Generator
    pool: PriorPool
    macro: Macro
    lookup: Lookup
    source: str

    @torch.no_grad()
    def logits(self, targets: list[float]) -> torch.Tensor:
        """[T, L, 6, 4]."""
        prior = torch.stack([self.pool.nearest(t) for t in targets])
        return self.network(normalise(torch.tensor(targets, dtype=torch.float32), self.pool.low, self.pool.high), prior)

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


def save_generator(
    folder: Path, network: Generator, pool: PriorPool, macro: Macro, shape: dict[str, int], table: Any
) -> None:
    """Write generator.safetensors and generator.json (space, range, prior pool; everything ``load_generator``
    needs).
    """
    from common.weights.read import save_weights

    about = {
        "schema": 1,
        "space": SPACE,
        "macro": macro.name,
        "input_size": macro.input_size,
        "shape": shape,
        "pool": pool.to_json(),
        "table": table,
    }
    save_weights(network, folder / "generator.safetensors")
    write_json(folder / "generator.json", about)


def load_generator(source: str, prior_pool: str = "", options: Any = None, data: Path | None = None) -> LoadedGenerator:
    """A generator by name or path (see ``GenerateSettings.generator``). Raises UserError.

    ``data`` gives the data root where there are no run options.
    """
    if source == "published":
        return _load_published(options if data is None else _Root(data))
    path = Path(source)
    path = path / "generator.safetensors" if path.is_dir() else path
    if path.suffix in AUTHORS:
        return _load_authors(path, prior_pool)
    if not path.exists() and not path.with_suffix(".json").exists():
        raise UserError(
            f"no generator {source!r}; give published, a finished search's folder, or its generator.safetensors"
        )
    about = read_json(path.with_suffix(".json"))
    if not isinstance(about, dict) or about.get("space") != SPACE:
        raise UserError(f"{path} is not a generator of space {SPACE!r}; give the folder of a finished search")
    from common.weights.read import load_strict, load_tensors

    macro = macro_for(about["macro"], about["input_size"])
    pool = pool_from(about["pool"], str(path.with_suffix(".json")))
    lookup = _table_from(about["table"]) if about["table"] else macs_table(macro)
    pool.check(pool.low, pool.high, lookup)
    shape = about["shape"]
    network = Generator(shape["constraint_channels"], shape["width"], shape["layers"])
    load_strict(network, load_tensors(path))
    return LoadedGenerator(network.eval(), pool, macro, lookup, source)


def check_prior(settings: Any, options: Any) -> None:
    """Raises UserError for a prior pool beside a generator that brings its own."""
    if Path(settings.generator).suffix not in AUTHORS:
        refuse_idle(settings, {"prior_pool": "the authors' best_avg.pth"}, options.given or frozenset())


@dataclass(frozen=True)
class _Root:
    data: Path
    allow_unpinned: bool = False


def _load_published(options: Any) -> LoadedGenerator:
    weights = verified_path("sgnas", "generator_imagenet.npz", options).path
    prior = verified_path("sgnas", "prior_pool.json", options).path
    with np.load(weights, allow_pickle=False) as arrays:
        tensors = {name: torch.from_numpy(arrays[name].copy()) for name in arrays.files}
    return _imagenet(tensors, read_pool(prior, 270.0, 450.0), "published")


def _load_authors(path: Path, prior_pool: str) -> LoadedGenerator:
    """The authors' file, {model, optimzier}, in torch's legacy format with CUDA storages."""
    from common.weights.read import load_tensors

    tensors = load_tensors(path)
    tensors = tensors.get("model", tensors)
    pool = read_pool(Path(prior_pool) if prior_pool else path.parent / "prior_pool.json", 270.0, 450.0)
    return _imagenet(tensors, pool, str(path))


def _imagenet(tensors: dict[str, torch.Tensor], pool: PriorPool, source: str) -> LoadedGenerator:
    network = Generator()
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != expected:
        raise UserError(f"{source} is not a generator of this space: its tensors have other names or shapes")
    network.load_state_dict(tensors)
    macro = MACROS["imagenet"]
    lookup = macs_table(macro)
    pool.check(pool.low, pool.high, lookup)
    return LoadedGenerator(network.eval(), pool, macro, lookup, source)


def table_to(lookup: Lookup) -> dict[str, Any]:
    """A look-up table as plain values."""
    return {
        "unit": lookup.unit,
        "base": lookup.base,
        "depthwise": [[float(v) for v in row] for row in lookup.depthwise.tolist()],
        "expand": lookup.expand.tolist(),
        "project": lookup.project.tolist(),
    }


def _table_from(table: dict[str, Any]) -> Lookup:
    parts = [torch.tensor(table[name]) for name in ("depthwise", "expand", "project")]
    return Lookup(table["base"], *parts, table["unit"])


def range_warning(loaded: LoadedGenerator, target: float) -> str:
    """What to expect of a target outside the generator's range; empty inside it."""
    low, high = loaded.pool.low, loaded.pool.high
    if low <= target <= high:
        return ""
    unit = loaded.lookup.unit
    here = loaded.kernels([target])[0][1]
    inside = [cost for _, cost in loaded.kernels(target_pool(low, high, (high - low) / 36))]
    return (
        f"target {target:g} is outside the trained range {low:g} to {high:g} {unit}, where the answer saturates or "
        f"turns round: it gives {here:.1f} {unit}; inside the range {min(inside):.1f} to {max(inside):.1f} are reached"
    )


def file_name(target: float) -> str:
    """architecture-365.json, architecture-5.5.json."""
    return f"architecture-{target:g}.json"


def write_architectures(
    folder: Path, macro: Macro, unit: str, found: list[tuple[float, Kernels, float]], origin: dict[str, Any]
) -> None:
    """architecture-<target>.json for each (target, kernels, cost), and architecture.json for the middle one."""
    ordered = sorted(found, key=lambda row: row[0])
    middle = ordered[len(ordered) // 2]
    for target, kernels, cost in ordered:
        content = {"kernels": kernels, "macro": macro.name}
        about = {**origin, "target": target, "lookup_cost": cost, "unit": unit, "input_size": macro.input_size}
        save_architecture(folder / file_name(target), SPACE, content, about)
        if target == middle[0]:
            save_architecture(folder / "architecture.json", SPACE, content, about)


def generate(settings: GenerateSettings, options: Any) -> dict[str, Any]:
    """Print MACs, parameters and kernels for each target and write architecture files."""
    from common.run.folder import open_run, say

    check_prior(settings, options)
    loaded = load_generator(settings.generator, settings.prior_pool, options)
    targets = [float(t) for t in settings.target_mflops]
    if not targets:
        raise UserError("no targets; give at least one, such as --target-mflops 320")
    lowest, highest = cost_range(loaded.lookup)
    for target in targets:
        if not (target > 0 and np.isfinite(target)):
            raise UserError(
                f"target {target:g} is no positive number; the space reaches from {lowest:.0f} to {highest:.0f}"
            )
        if warning := range_warning(loaded, target):
            say(f"warning: {warning}")
    with open_run(options, settings) as run:
        if run.result is not None:
            _show(run.result["architectures"], loaded.lookup.unit, settings, options)
            return run.result
        answers = [loaded.hit(t) for t in targets] if settings.hit else loaded.kernels(targets)
        found = [(target, kernels, cost) for target, (kernels, cost) in zip(targets, answers)]
        if run.writes:
            write_architectures(run.folder, loaded.macro, loaded.lookup.unit, found, {"generator": settings.generator})
        rows = []
        for target, kernels, cost in found:
            row = counts(kernels, loaded.macro, settings.classes, settings.se)
            rows.append({"target": target, "lookup_cost": cost, **row, "kernels": kernels})
        _show(rows, loaded.lookup.unit, settings, options)
        return run.finish({"metrics": {"targets": len(rows)}, "architectures": rows})


def _show(rows: list[dict[str, Any]], unit: str, settings: GenerateSettings, options: Any) -> None:
    if distributed.rank() == 0 and not options.json:
        print(table(rows, unit))
        squeeze = "with" if settings.se else "without"
        print(f"MACs and params: {settings.classes} classes, {squeeze} squeeze-excite (--classes, --no-se)")


def table(rows: list[dict[str, Any]], unit: str) -> str:
    """The answer as a text table."""
    lines = [f"{'target':>8} {unit:>9} {'MACs (M)':>9} {'params':>10}  kernels per layer"]
    for row in rows:
        kernels = " ".join("".join(map(str, layer)) for layer in row["kernels"])
        lines.append(
            f"{row['target']:8g} {row['lookup_cost']:9.2f} {row['macs_published'] / 1e6:9.2f} "
            f"{row['parameters']:10,d}  {kernels}"
        )
    return "\n".join(lines)
