"""Evaluating weights: our own files, and the authors' checkpoints (dict of args, model, epoch, …)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.checkpoints import load_strict, load_tensors, strip_prefix
from common.device import pick_device
from common.errors import UserError
from common.runs import open_run
from common.training import evaluate as evaluate_model
from papers.nao_v2 import cost, datasets
from papers.nao_v2.architectures import PUBLISHED_TEXT, Architecture, load, parse, space_of, text_of
from papers.nao_v2.network import Network
from papers.nao_v2.settings import EvaluateSettings
from papers.nao_v2.size import size_of

# Names under which a training script may have stored its arguments.
ARGUMENTS = {
    "architecture": ("arch", "fixed_arc", "architecture", "genotype"),
    "channels": ("channels", "init_channels"),
    "layers": ("layers", "num_layers"),
    "nodes": ("nodes", "num_nodes"),
}


@dataclass(frozen=True)
class Stored:
    """A checkpoint's weights, and what its stored arguments say of the network (None: nothing)."""

    weights: dict[str, torch.Tensor]
    architecture: str | None = None
    channels: int | None = None
    layers: int | None = None
    nodes: int | None = None


def read_checkpoint(path: Path) -> Stored:
    """The authors' container, a bare state dict, with or without ``module.``. Raises UserError."""
    content = load_tensors(path)
    arguments: Any = None
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        arguments, content = content.get("args"), content["model"]
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds no weights; a checkpoint with 'model', or a state dict, is expected")
    weights = {k: v for k, v in strip_prefix(content).items() if isinstance(v, torch.Tensor)}
    if not weights:
        raise UserError(f"{path} holds no tensors; a checkpoint with 'model', or a state dict, is expected")
    values = arguments if isinstance(arguments, Mapping) else getattr(arguments, "__dict__", {})
    found = {}
    for name, aliases in ARGUMENTS.items():
        value = next((values[a] for a in aliases if values.get(a) is not None), None)
        if name == "architecture":
            if isinstance(value, list | tuple):  # may be stored as parsed integers, flat or one list per cell
                flat = [v for part in value for v in (part if isinstance(part, list | tuple) else [part])]
                value = " ".join(str(int(v)) for v in flat)
            found[name] = str(value) if value else None
        else:
            found[name] = int(value) if value is not None else None
    return Stored(weights, **found)


def width_of(weights: Mapping[str, torch.Tensor]) -> int | None:
    """Channels as the stem's shape tells."""
    if "stem.0.weight" in weights:
        return int(weights["stem.0.weight"].shape[0]) // 3
    if "stem1.1.weight" in weights:
        return int(weights["stem1.1.weight"].shape[0])
    return None


def resolve(c: EvaluateSettings, stored: Stored, kind: str) -> tuple[Architecture, str, int, int]:
    """(architecture, space, channels, layers): asked for, else stored, else published; both must agree.

    Raises UserError naming what was asked for and what the checkpoint holds.
    """
    source = Path(c.checkpoint).name
    space = space_of(c.arch, c.space) if c.arch else c.space
    held = parse(stored.architecture, space, where=f"{source} (stored architecture)") if stored.architecture else None
    asked = load(c.arch, space) if c.arch else None
    if held is not None and asked is not None and held != asked:
        raise UserError(
            f"{source} is of architecture {text_of(held)!r}, but {c.arch!r} was asked for; leave --arch out to "
            f"take the stored one"
        )
    architecture = held or asked or load("NAONet_V2")
    width = width_of(stored.weights)
    if stored.channels and width and stored.channels != width:
        raise UserError(f"{source} says {stored.channels} channels, its stem has {width}; the file is inconsistent")
    channels = _agree("channels", c.channels, stored.channels or width, 36 if kind == "cifar" else 52, source)
    cells = {int(key.split(".")[1]) for key in stored.weights if key.startswith("cells.")}
    depth = (max(cells) - 1) // 3 if cells else None
    layers = _agree("layers", c.layers, stored.layers or depth, 6 if kind == "cifar" else 4, source)
    return architecture, space, channels, layers


def _agree(name: str, asked: int, held: int | None, default: int, source: str) -> int:
    if asked and held and asked != held:
        raise UserError(
            f"{source} has {name} {held}, but {asked} was asked for; leave --{name} out to take the stored value"
        )
    return asked or held or default


def build(c: EvaluateSettings, stored: Stored, classes: int, kind: str) -> tuple[Network, Architecture, str, int, int]:
    """The network with its weights. For weights without stored architecture, older published ones are tried as well."""
    architecture, space, channels, layers = resolve(c, stored, kind)
    candidates = [architecture]
    if not c.arch and stored.architecture is None:
        candidates += [load(name) for name in PUBLISHED_TEXT if load(name) != architecture]
    first: UserError | None = None
    for candidate in candidates:
        network = Network(candidate, kind=kind, channels=channels, layers=layers, classes=classes, space=space)
        try:
            load_strict(network, stored.weights, source=Path(c.checkpoint).name)
        except UserError as error:
            first = first or error
            continue
        return network, candidate, space, channels, layers
    assert first is not None
    raise first


def opened(c: EvaluateSettings, options: Any) -> tuple[Any, tuple[Any, ...], str]:
    """(test set, what ``build`` gives, kind of network). Raises UserError."""
    if not c.checkpoint:
        raise UserError(
            "evaluate needs weights: --checkpoint FILE (weights.safetensors of a training, or the authors' file)"
        )
    stored = read_checkpoint(Path(c.checkpoint))
    kind = "imagenet" if "stem0.0.weight" in stored.weights else "cifar"
    if c.dataset == "imagenet" and kind == "cifar":
        raise UserError(f"{c.checkpoint} is of a CIFAR network; --dataset imagenet needs an ImageNet one")
    test = datasets.open_set(c.dataset, "test", kind, options)
    return test, build(c, stored, len(test.classes), kind), kind


def evaluate(settings: EvaluateSettings, options: Any) -> dict[str, Any]:
    """The ``evaluate`` verb: eval mode, running statistics, no auxiliary head; error = 100 - top-1."""
    c, device = settings, pick_device(options)
    test, (network, architecture, space, channels, layers), kind = opened(c, options)
    text = text_of(architecture)
    extra = {"data": test.pins, "pinned": test.pinned, "architecture": text}
    with open_run(options, c, extra) as run:
        if run.result is not None:
            return run.result
        batches = datasets.test_batches(test, c.dataset, c.batch_size, options.seed, device, c.workers)
        found = evaluate_model(
            network.to(device), run.progress(batches.epoch(0), "evaluate"), device, options.precision
        )
        size = size_of(
            architecture, kind=kind, channels=channels, layers=layers, classes=len(test.classes), space=space
        )
        metrics = {
            "top1_error_percent": found.top1_error,
            "top5_error_percent": found.top5_error,
            "test_loss": found.loss,
            "images": found.images,
            "parameters": size.parameters,
            "macs": size.macs,
            "channels": channels,
            "layers": layers,
        }
        return run.finish({"metrics": metrics, "architecture": text})


def plan(settings: EvaluateSettings, options: Any) -> list[str]:
    """What an evaluation would do."""
    test, (_, architecture, space, channels, layers), kind = opened(settings, options)
    size = size_of(architecture, kind=kind, channels=channels, layers=layers, classes=len(test.classes), space=space)
    lines = [f"{len(test):,} images, {size.parameters:,} parameters, {size.macs:,} multiply-adds per image"]
    if kind == "cifar":  # the estimate is for 32x32 images
        seconds = cost.score_seconds(len(test), channels, layers)
        lines.append(f"about {cost.duration(seconds)} on one CPU thread")
    return lines
