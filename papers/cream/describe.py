"""A network in numbers and as a picture: sizes, operation counts in two conventions, one bar a block."""

from __future__ import annotations

from typing import Any

from common.data.names import CLASSES
from common.errors import UserError
from papers.cream.networks.architectures import resolve
from papers.cream.networks.derived import input_size, spec_of
from papers.cream.networks.layout import BlockSpec
from papers.cream.settings import Describe, Draw

COLOURS = {3: "#8ecae6", 5: "#219ebc", 7: "#023047"}
PLAIN = "#b7b7a4"  # the fixed first and last block, which no path changes


def describe(settings: Describe, options: Any) -> dict[str, Any]:
    """``parameters``, ``macs`` (convolutions and linear), ``macs_published`` (thop 2020), ``ptflops``, by network.

    ``dataset`` sets the number of classes and the input size. Default: the set that a file (an architecture found,
    weights trained here) is of, else ImageNet at the network's own resolution. Of a folder the number of classes is
    unknown, so what is asked for must be one of the known sets. Raises UserError for unknown names.
    """
    found = resolve(settings.arch)
    own = not settings.dataset and bool(found.dataset)
    dataset = settings.dataset or found.dataset or "imagenet"
    classes = (found.classes if own else 0) or CLASSES.get(dataset, 0)
    if not classes:
        raise UserError(f"unknown data set {dataset!r}; choose one of {', '.join(CLASSES)}")
    size = input_size(found, (found.resolution or 0) if own else 0, dataset)
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


def block_label(block: BlockSpec) -> str:
    """Kernel size, and expansion where there is one."""
    text = f"{block.kernel}x{block.kernel}"
    return f"{text}\ne{block.expand}" if block.kind == "mbconv" else text


def draw(settings: Draw, options: Any) -> dict[str, Any]:
    """<out>/architecture.<format>: height is the output width in channels, colour the kernel, ``e`` the expansion.

    Entries of a path that skip their position build no block. Raises UserError for what is no architecture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from common.run.files import make_folder, write_figure
    from common.run.folder import say

    found = resolve(settings.arch)
    spec = spec_of(found, 1000, settings.single_block, settings.repeat_stage3)
    blocks = [(number, block) for number, stage in enumerate(spec.stages) for block in stage]
    figure, axes = pyplot.subplots(figsize=(max(0.5 * len(blocks) + 1.5, 4), 3.6))
    highest = max(block.cout for _, block in blocks)
    side, ticks = -(-input_size(found) // 2), []
    for x, (_, block) in enumerate(blocks):
        colour = COLOURS[block.kernel] if block.kind == "mbconv" else PLAIN
        axes.bar(x, block.cout, 0.85, color=colour)
        axes.text(x, block.cout + 0.02 * highest, block_label(block), ha="center", va="bottom", fontsize=8)
        side = -(-side // block.stride)
        ticks.append(f"{side}")
    for x in range(1, len(blocks)):
        if blocks[x][0] != blocks[x - 1][0]:
            axes.axvline(x - 0.5, color="#cccccc", lw=0.8, zorder=0)
    axes.set(
        title=found.name, ylabel="channels", xlabel="side of the block's output (lines: stages)",
        xticks=range(len(blocks)), xticklabels=ticks, ylim=(0, 1.18 * highest),
    )  # fmt: skip
    folder = options.folder
    make_folder(folder)
    path = folder / f"architecture.{settings.format}"
    write_figure(figure, path, bbox_inches="tight", dpi=120)
    pyplot.close(figure)
    say(str(path))
    return {"files": [str(path)]}
