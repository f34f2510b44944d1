"""The ``draw`` verb: a network as a row of blocks, one bar a block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from papers.cream.describe import spec_of
from papers.cream.network.layout import BlockSpec
from papers.cream.settings import Draw

COLOURS = {3: "#8ecae6", 5: "#219ebc", 7: "#023047"}
PLAIN = "#b7b7a4"  # the fixed first and last block, which no path changes


def label(block: BlockSpec) -> str:
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

    name, spec, size, _ = spec_of(settings.arch, 1000, 0, settings.single_block, settings.repeat_stage3)
    blocks = [(number, block) for number, stage in enumerate(spec.stages) for block in stage]
    figure, axes = pyplot.subplots(figsize=(max(0.5 * len(blocks) + 1.5, 4), 3.6))
    highest = max(block.cout for _, block in blocks)
    side, ticks = -(-size // 2), []
    for x, (_, block) in enumerate(blocks):
        colour = COLOURS[block.kernel] if block.kind == "mbconv" else PLAIN
        axes.bar(x, block.cout, 0.85, color=colour)
        axes.text(x, block.cout + 0.02 * highest, label(block), ha="center", va="bottom", fontsize=8)
        side = -(-side // block.stride)
        ticks.append(f"{side}")
    for x in range(1, len(blocks)):
        if blocks[x][0] != blocks[x - 1][0]:
            axes.axvline(x - 0.5, color="#cccccc", lw=0.8, zorder=0)
    axes.set(
        title=name, ylabel="channels", xlabel="side of the block's output (lines: stages)", xticks=range(len(blocks)),
        xticklabels=ticks, ylim=(0, 1.18 * highest),
    )  # fmt: skip
    folder = options.folder
    make_folder(folder)
    path: Path = folder / f"architecture.{settings.format}"
    write_figure(figure, path, bbox_inches="tight", dpi=120)
    pyplot.close(figure)
    say(str(path))
    return {"files": [str(path)]}
