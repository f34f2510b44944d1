"""What an architecture is: parameters and multiply-adds in closed form; the ``describe`` verb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.cli.errors import UserError
from common.spaces.architecture import read_architecture
from common.weights.read import read_metadata
from papers.nao_v2.network.architectures import PUBLISHED_TEXT, load, loose_ends, space_of, text_of
from papers.nao_v2.network.size import size_of

# data set: (network, classes, channels, layers) of the published configuration
DATASETS = {
    "cifar10": ("cifar", 10, 36, 6),
    "cifar100": ("cifar", 100, 36, 6),
    "digits": ("cifar", 10, 36, 6),
    "imagenet": ("imagenet", 1000, 52, 4),
    "search": ("cifar", 10, 20, 3),
}


def describe(
    name_or_path: str, dataset: str | None = None, channels: int = 0, layers: int = 0, space: str = "small"
) -> dict[str, Any]:
    """Counts of an architecture. ``NAME-C`` means the width C, e.g. ``NAONet_V2-44``. Raises UserError.

    name_or_path: a published name, 40 integers, an architecture file, or weights that ``train`` wrote (taken at their
    width and depth). dataset: a published configuration; None or empty: the set that a file names, else CIFAR-10.
    """
    held = origin_of(name_or_path)
    known = held.get("classes") if not dataset else None  # a file says on which set it was found or trained
    dataset = dataset or str(held.get("dataset", "cifar10"))
    image = int(held.get("pixels", 0)) if dataset == held.get("dataset") else 0
    if dataset in DATASETS:
        kind, classes, width, depth = DATASETS[dataset]
    elif known:
        kind, classes, width, depth = str(held.get("network", "cifar")), int(known), 36, 6
    else:
        raise UserError(f"unknown data set {dataset!r}; use {', '.join(DATASETS)}")
    width, depth = held.get("width", width), held.get("depth", depth)
    if "text" in held:
        name_or_path, shown = held["text"], name_or_path
        space = held["space"]
    else:
        shown = name_or_path
    name, _, suffix = name_or_path.rpartition("-")
    if name and suffix.isdigit() and not channels and len(name.split()) == 1:
        channels, stem = int(suffix), name
    else:
        stem = name_or_path
    space = space_of(stem, space)
    architecture = load(stem, space)
    channels, layers = channels or width, layers or depth
    if channels < 2 or channels % 2 or layers < 1:
        raise UserError(f"channels {channels}, layers {layers}: give an even width and at least one layer")
    found = size_of(
        architecture, kind=kind, channels=channels, layers=layers, classes=classes, space=space, image=image
    )
    return {
        "name": shown,
        "dataset": dataset,
        "classes": classes,
        "channels": channels,
        "layers": layers,
        "parameters": found.parameters,
        "parameters_with_auxiliary": found.parameters_with_auxiliary,
        "macs": found.macs,
        "macs_published": found.macs,
        "loose_ends": {"normal": loose_ends(architecture[0]), "reduction": loose_ends(architecture[1])},
        "architecture": text_of(architecture),
    }


def origin_of(name_or_path: str) -> dict[str, Any]:
    """What a file says of the search that found its architecture, or own weights of themselves (``text`` and ``space``
    are then their architecture); {} for anything else.
    """
    if name_or_path in PUBLISHED_TEXT or len(name_or_path.split()) > 1 or not Path(name_or_path).is_file():
        return {}
    if not name_or_path.endswith(".safetensors"):
        return dict(read_architecture(Path(name_or_path)).get("origin") or {})
    said = read_metadata(name_or_path)
    if said.get("paper") != "nao_v2" or "architecture" not in said:
        raise UserError(
            f"{name_or_path} does not hold weights that train of nao_v2 wrote; give those or an architecture"
        )
    return {**said, "text": said["architecture"]["text"], "space": said["space"]}


def run_describe(settings: Any, options: Any) -> dict[str, Any]:
    """The ``describe`` verb."""
    return describe(settings.arch, settings.dataset, settings.channels, settings.layers, settings.space)


def supernet_parameters(space: str = "small", classes: int = 10) -> int:
    """Parameters of the search's supernet (for the claims)."""
    from papers.nao_v2.network.supernet import Supernet

    return sum(p.numel() for p in Supernet(space=space, classes=classes).parameters())


def controller_parameters() -> int:
    """Parameters of the search's controller (for the claims)."""
    from papers.nao_v2.method.controller import Controller

    return sum(p.numel() for p in Controller().parameters())
