"""A network in numbers and as a picture: sizes, operation counts in two conventions, one bar a block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.data.names import classes_of, side_of
from common.spaces.blocks import Block, draw_blocks
from common.spaces.drawing import name_of
from papers.cream.networks.architectures import PUBLISHED, resolve
from papers.cream.networks.derived import input_size, spec_of
from papers.cream.networks.layout import NetworkSpec
from papers.cream.settings import Describe, Draw

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def describe(settings: Describe, options: RunOptions | None = None) -> dict[str, Any]:
    """``parameters``, ``macs`` (convolutions and linear), ``macs_published`` (thop 2020), ``ptflops``, by network.

    ``dataset`` sets the number of classes and the input size. Default: the set that a file (an architecture found,
    weights trained here) is of, else ImageNet at the network's own resolution. Of a folder the classes are counted;
    ``FOLDER@SIZE`` says the size. Raises UserError for unknown names.
    """
    found = resolve(settings.arch)
    own = not settings.dataset and bool(found.dataset)
    dataset = settings.dataset or found.dataset or "imagenet"
    classes = settings.classes or (found.classes if own else 0) or classes_of(dataset)
    size = settings.resolution or (found.resolution or 0 if own else side_of(dataset))
    size = input_size(found, size, dataset)
    spec = spec_of(found, classes, settings.single_block, settings.repeat_stage3)
    parameters, macs = spec.count("parameters"), spec.count("macs", size)
    return {
        "name": found.name,
        "dataset": dataset,
        "resolution": size,
        "classes": spec.classes,
        "parameters": parameters,
        "parameters_with_auxiliary": parameters,  # there is no auxiliary head
        "parameters_without_classifier": parameters - (spec.layout.features + 1) * spec.classes,
        "macs": macs,
        "macs_convolutions": macs - spec.layout.features * spec.classes,
        "macs_published": spec.count("thop2020", size),
        "macs_ptflops": spec.count("ptflops", size),
        "architecture": found.path,
        "blocks": [[f"k{b.kernel} e{b.expand}" for b in stage] for stage in spec.stages[1:6]],
    }


def draw(settings: Draw, options: RunOptions) -> dict[str, Any]:
    """<out>/architecture.<format>: a column a block. Raises UserError for what is no architecture.

    Entries of a path that skip their position build no block.
    """
    found = resolve(settings.arch)
    spec = spec_of(found, 1000, settings.single_block, settings.repeat_stage3)
    title = f"Cream {found.name}" if found.name in PUBLISHED else name_of(settings.arch)
    return draw_blocks(blocks_of(spec, input_size(found)), title, options.folder, settings.format)


def blocks_of(spec: NetworkSpec, size: int) -> list[Block]:
    """Stem, the blocks of all stages, and the last 1x1 convolution, for a square picture of that side."""
    side = -(-size // 2)
    blocks = [Block("stem", side, spec.layout.stem, (3,), word="3x3")]
    for number, stage in enumerate(spec.stages):
        for block in stage:
            side = -(-side // block.stride)
            if block.kind == "mbconv":
                units = max(1, round(block.middle / block.cin))
                blocks.append(Block(str(number), side, block.cout, (block.kernel,) * units))
            else:
                words = {"dwsep": "", "conv_bn_act": "1x1", "resunit": "res"}
                blocks.append(
                    Block(str(number), side, block.cout, (block.kernel,), block.kind == "dwsep", words[block.kind])
                )
    return [*blocks, Block("last", 1, spec.layout.features, (1,), word="1x1")]
