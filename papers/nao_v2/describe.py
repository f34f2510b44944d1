"""What an architecture is: parameters and multiply-adds in closed form; the ``describe`` verb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.architecture import read_architecture
from common.errors import UserError
from papers.nao_v2.architectures import PUBLISHED_TEXT, load, loose_ends, space_of, text_of
from papers.nao_v2.size import size_of

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

    dataset: a published configuration; None or empty: the set that an architecture file names, else CIFAR-10.
    """
    held = origin_of(name_or_path)
    known = held.get("classes") if not dataset else None  # a search's file says on which set it was found
    dataset = dataset or str(held.get("dataset", "cifar10"))
    if dataset in DATASETS:
        kind, classes, width, depth = DATASETS[dataset]
    elif known:
        kind, classes, width, depth = "cifar", int(known), 36, 6
    else:
        raise UserError(f"unknown data set {dataset!r}; use {', '.join(DATASETS)}")
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
    found = size_of(architecture, kind=kind, channels=channels, layers=layers, classes=classes, space=space)
    return {
        "name": name_or_path,
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
    """What an architecture file says of the search that found it; {} for anything else."""
    if name_or_path in PUBLISHED_TEXT or len(name_or_path.split()) > 1 or not Path(name_or_path).is_file():
        return {}
    return dict(read_architecture(Path(name_or_path)).get("origin") or {})


def run_describe(settings: Any, options: Any) -> dict[str, Any]:
    """The ``describe`` verb."""
    return describe(settings.arch, settings.dataset, settings.channels, settings.layers, settings.space)


def supernet_parameters(space: str = "small", classes: int = 10) -> int:
    """Parameters of the search's supernet (for the claims)."""
    from papers.nao_v2.supernet import Supernet

    return sum(p.numel() for p in Supernet(space=space, classes=classes).parameters())


def controller_parameters() -> int:
    """Parameters of the search's controller (for the claims)."""
    from papers.nao_v2.controller import Controller

    return sum(p.numel() for p in Controller().parameters())
