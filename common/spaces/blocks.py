"""Picture of a network of inverted bottlenecks: a column a block, coloured by kernel, as high as its expansion.

Under the columns stand stage, resolution (side of the output), channels and expansion of every block, and beside the
title what the colours mean. What the search did not choose (first and last block) is grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.run.files import make_folder
from common.spaces.drawing import INK, MARGIN, PALE, TITLE, blank, plain, save
from common.spaces.layered import text_width

KERNELS = {3: "#a6d3ea", 5: "#2f8fbd", 7: "#0b3c5d"}
PLAIN = "#c9c9bd"
COLUMN, UNIT, ROW = 0.4, 0.27, 0.22
"""Inches: width of a column, height of one of expansion, height of a line of the table."""
ROWS = ("stage", "resolution", "channels", "expansion")
SIDE = 0.95
"""Inches left of the columns, for the names of the lines."""


@dataclass(frozen=True)
class Block:
    """One block. kernels: one a unit of expansion, from below. fixed: the search did not choose it. word: what a block
    without kernels of its own is, such as "1x1".
    """

    stage: str
    side: int
    channels: int
    kernels: tuple[int, ...]
    fixed: bool = False
    word: str = ""

    @property
    def expansion(self) -> str:
        """Hidden channels over input channels."""
        return str(len(self.kernels)) if not self.word else ""


def size_of(blocks: Sequence[Block], title: str) -> tuple[float, float]:
    """Width and height of the picture in inches."""
    tall = max(len(b.kernels) for b in blocks)
    wide = max(SIDE + COLUMN * len(blocks), text_width(title, TITLE) + 4.2, 6.0)
    return wide + 2 * MARGIN, 0.55 + tall * UNIT + ROW * (len(ROWS) + 0.4) + 2 * MARGIN


def draw_blocks(blocks: Sequence[Block], title: str, folder: Path, kind: str) -> dict[str, Any]:
    """<folder>/architecture.<kind> (svg, png, pdf); what the ``draw`` verbs return."""
    width, height = size_of(blocks, title)
    figure, axes = blank(width, height)
    axes.text(MARGIN, height - MARGIN - 0.1, plain(title), fontsize=TITLE, ha="left", va="center", color=INK)
    _legend(axes, width - MARGIN, height - MARGIN - 0.1, any(b.fixed or b.word for b in blocks))
    floor = MARGIN + ROW * (len(ROWS) + 0.4)
    for number, name in enumerate(ROWS):
        axes.text(MARGIN, _line(number), name, fontsize=8, ha="left", va="center", color="#555555")
    for place, block in enumerate(blocks):
        _column(axes, block, MARGIN + SIDE + COLUMN * place, floor)
    _stages(axes, blocks, floor, height - MARGIN - 0.35)
    make_folder(folder)
    path = folder / f"architecture.{kind}"
    save(figure, path)
    return {"files": [str(path)]}


def _line(number: int) -> float:
    """Height of a line of the table."""
    return MARGIN + ROW * (len(ROWS) - 1 - number) + ROW / 2


def _column(axes: Any, block: Block, x: float, floor: float) -> None:
    from matplotlib.patches import Rectangle

    for unit, kernel in enumerate(block.kernels):
        colour = PLAIN if block.fixed or block.word else KERNELS.get(kernel, PLAIN)
        corner = (x + 0.03, floor + unit * UNIT)
        axes.add_patch(Rectangle(corner, COLUMN - 0.06, UNIT - 0.02, facecolor=colour, edgecolor="none"))
        dark = colour in (KERNELS[5], KERNELS[7])
        axes.text(x + COLUMN / 2, corner[1] + UNIT / 2 - 0.01, block.word or str(kernel), fontsize=7.5, ha="center",
                  va="center", color="white" if dark else "black")  # fmt: skip
    for number, text in ((1, str(block.side)), (2, str(block.channels)), (3, block.expansion)):
        axes.text(x + COLUMN / 2, _line(number), text, fontsize=8, ha="center", va="center", color=INK)


def _stages(axes: Any, blocks: Sequence[Block], floor: float, top: float) -> None:
    """The stages' names in the first line, and a hairline between two stages."""
    starts = [k for k in range(len(blocks)) if not k or blocks[k].stage != blocks[k - 1].stage]
    for start, end in zip(starts, [*starts[1:], len(blocks)]):
        x = MARGIN + SIDE + COLUMN * (start + end) / 2
        axes.text(x, _line(0), blocks[start].stage, fontsize=8, ha="center", va="center", color=INK)
        if start:
            border = MARGIN + SIDE + COLUMN * start
            axes.plot([border, border], [MARGIN, top], color="#d5dae0", lw=0.8, zorder=0)
    axes.plot([MARGIN, MARGIN + SIDE + COLUMN * len(blocks)], [floor - 0.03] * 2, color=PALE, lw=0.8)


def _legend(axes: Any, right: float, y: float, plain: bool) -> None:
    from matplotlib.patches import Rectangle

    entries = [(colour, f"{k}x{k}") for k, colour in KERNELS.items()] + ([(PLAIN, "fixed")] if plain else [])
    x = right - 0.62 * len(entries)
    axes.text(x - 0.1, y, "depthwise kernel:", fontsize=8, ha="right", va="center", color="#555555")
    for number, (colour, name) in enumerate(entries):
        left = x + 0.62 * number
        axes.add_patch(Rectangle((left, y - 0.07), 0.14, 0.14, facecolor=colour, edgecolor="none"))
        axes.text(left + 0.19, y, name, fontsize=8, ha="left", va="center", color=INK)
