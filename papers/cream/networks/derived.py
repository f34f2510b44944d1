"""From an architecture to its network as numbers: how entries are read, its input size, what a file says of it.

No torch here.
"""

from __future__ import annotations

from typing import Any

from papers.cream.networks.architectures import PUBLISHED, Architecture, resolve
from papers.cream.networks.layout import VARIANTS, Layout, NetworkSpec, network_spec, variant_of

RESOLUTIONS = {"tiny-imagenet-20": 64, "cifar10": 32, "cifar100": 32, "digits": 32}
DEFAULT_RESOLUTION = 224


def input_size(found: Architecture, resolution: int = 0, dataset: str = "imagenet") -> int:
    """Side of the pictures: what is asked for, else that of the set, of the architecture, 224."""
    return resolution or RESOLUTIONS.get(dataset) or found.resolution or DEFAULT_RESOLUTION


def single_block_rule(found: Architecture, rule: str) -> bool:
    """Whether one-block stages are built by the released default: always, never, or (auto) as the architecture's file
    says, without one for the published paths.
    """
    if rule == "auto" and "single_block_default" in found.extra:
        return bool(found.extra["single_block_default"])
    return found.path in PUBLISHED.values() if rule == "auto" else rule == "default"


def spec_of(
    arch: str | Architecture, classes: int, single_block: str = "auto", repeat_stage3: bool = False
) -> NetworkSpec:
    """The network of what ``resolve`` takes or gave. Raises UserError."""
    found = resolve(arch) if isinstance(arch, str) else arch
    layout = Layout(**{option: found.extra[option] for option in VARIANTS if option in found.extra})
    repeated = repeat_stage3 or bool(found.extra.get("repeat_stage3"))
    return network_spec(found.path, classes, layout, single_block_rule(found, single_block), repeated)


def architecture_of(
    found: Architecture, size: int, single_block: str = "auto", repeat_stage3: bool = False
) -> dict[str, Any]:
    """What trained weights say about their network: enough for ``spec_of`` to build it again without the flags."""
    spec, path = spec_of(found, 1, single_block, repeat_stage3), found.path
    return {
        "path": path, "resolution": size, **variant_of(spec.layout),
        "single_block_default": single_block_rule(found, single_block),
        "repeat_stage3": repeat_stage3 or bool(found.extra.get("repeat_stage3")),
    }  # fmt: skip
