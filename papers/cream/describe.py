"""Sizes and operation counts of a network, in pure multiply-adds and in the convention of the published names."""

from __future__ import annotations

from typing import Any

from common.cli.errors import UserError
from papers.cream.network.architectures import PUBLISHED, Named, Path, resolve
from papers.cream.network.layout import VARIANTS, Layout, NetworkSpec, network_spec, variant_of
from papers.cream.settings import Describe

CLASSES = {
    "imagenet": 1000,
    "tiny-imagenet-20": 20,
    "cifar10": 10,
    "cifar100": 100,
    "digits": 10,
    "imagenet16-120": 120,
}
RESOLUTIONS = {"tiny-imagenet-20": 64, "cifar10": 32, "cifar100": 32, "digits": 32}
DEFAULT_RESOLUTION = 224


def single_block_rule(rule: str, path: Path) -> bool:
    """Whether one-block stages are built by the released default: always, never, or for the published paths (auto)."""
    return path in PUBLISHED.values() if rule == "auto" else rule == "default"


def spec_of(
    arch: str | Named, classes: int, resolution: int = 0, single_block: str = "auto", repeat_stage3: bool = False,
    dataset: str = "imagenet",
) -> tuple[str, NetworkSpec, int, Path]:  # fmt: skip
    """(name, network, input resolution, path) of what ``resolve`` takes or gave. Raises UserError."""
    found = resolve(arch) if isinstance(arch, str) else arch
    size = resolution or RESOLUTIONS.get(dataset) or found.resolution or DEFAULT_RESOLUTION
    single = single_block_rule(single_block, found.path)
    if "single_block_default" in found.extra and single_block == "auto":
        single = bool(found.extra["single_block_default"])
    repeated = repeat_stage3 or bool(found.extra.get("repeat_stage3"))
    layout = Layout(**{option: found.extra[option] for option in VARIANTS if option in found.extra})
    return found.name, network_spec(found.path, classes, layout, single, repeated), size, found.path


def architecture_of(
    found: Named, size: int, single_block: str = "auto", repeat_stage3: bool = False, dataset: str = "imagenet"
) -> dict[str, Any]:
    """What trained weights say about their network: enough for ``spec_of`` to build it again without the flags."""
    _, spec, _, path = spec_of(found, 1, size, single_block, repeat_stage3, dataset)
    single = found.extra.get("single_block_default") if single_block == "auto" else None
    return {
        "path": path, "resolution": size, **variant_of(spec.layout),
        "single_block_default": single_block_rule(single_block, path) if single is None else bool(single),
        "repeat_stage3": repeat_stage3 or bool(found.extra.get("repeat_stage3")),
    }  # fmt: skip


def describe(
    name: str, dataset: str | None = None, single_block: str = "auto", repeat_stage3: bool = False
) -> dict[str, Any]:
    """``parameters``, ``macs`` (convolutions and linear), ``macs_published`` (thop 2020), ``ptflops``, by network.

    dataset: sets the number of classes and the input size. Default: the set that a file (an architecture found, weights
    trained here) is of, else ImageNet at the network's own resolution. Of a folder the number of classes is unknown, so
    what is asked for must be one of the known sets. Raises UserError for unknown names.
    """
    found = resolve(name)
    own = not dataset and bool(found.dataset)
    dataset = dataset or found.dataset or "imagenet"
    classes = (found.classes if own else 0) or CLASSES.get(dataset, 0)
    if not classes:
        raise UserError(f"unknown data set {dataset!r}; choose one of {', '.join(CLASSES)}")
    resolution = (found.resolution or 0) if own else 0
    label, spec, size, path = spec_of(found, classes, resolution, single_block, repeat_stage3, dataset)
    parameters = spec.count("parameters")
    classifier = (spec.layout.features + 1) * spec.classes
    return {
        "name": label,
        "dataset": dataset,
        "resolution": size,
        "classes": spec.classes,
        "parameters": parameters,
        "parameters_with_auxiliary": parameters,  # there is no auxiliary head
        "parameters_without_classifier": parameters - classifier,
        "macs": spec.count("macs", size),
        "macs_convolutions": spec.count("macs", size) - spec.layout.features * spec.classes,
        "macs_published": spec.count("thop2020", size),
        "macs_ptflops": spec.count("ptflops", size),
        "architecture": path,
        "blocks": [[f"k{b.kernel} e{b.expand}" for b in stage] for stage in spec.stages[1:6]],
    }


def run(settings: Describe, options: Any) -> dict[str, Any]:
    """The ``describe`` verb."""
    return describe(settings.arch, settings.dataset, settings.single_block, settings.repeat_stage3)


def published_millions(name: str | int) -> float:
    """The count behind a network's name, in millions."""
    return describe(str(name))["macs_published"] / 1e6


def parameters_millions(name: str | int) -> float:
    """Parameters in millions, classifier included."""
    return describe(str(name))["parameters"] / 1e6


def supernet_parameters(minimum: float, maximum: float, classes: int = 1000, slice_: int = 4) -> int:
    """Parameters of the supernet built for a window, meta layer included."""
    from papers.cream.method.window import supernet_window
    from papers.cream.network.layout import FlopsTable

    table = FlopsTable(supernet_window(float(minimum), float(maximum)).built)
    blocks = sum(round(v * 1e6) for stage in table.params for position in stage for v in position)
    outer = round(table.params_fixed * 1e6) + 2 * 16 + (1280 + 1) * classes + slice_ * classes + 1
    return blocks + outer
