"""Drawing a cell: a directed graph from left to right, as a picture (matplotlib) or as DOT text.

Edges are (from, to, label or None), nodes are named by the edges. Inputs are the nodes nothing leads to (green),
outputs
those nothing leaves (yellow), all others blue, as in the field's drawings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError

Edge = tuple[str, str, str | None]
INPUT, NODE, OUTPUT = "darkseagreen2", "lightblue", "palegoldenrod"
COLOURS = {INPUT: "#b4eeb4", NODE: "#add8e6", OUTPUT: "#eee8aa"}
FORMATS = ("svg", "png", "pdf", "dot")


def node_colours(edges: Sequence[Edge]) -> dict[str, str]:
    """Node -> X11 colour name, in order of first appearance."""
    sources, targets = {a for a, _, _ in edges}, {b for _, b, _ in edges}
    names = dict.fromkeys(name for a, b, _ in edges for name in (a, b))
    return {n: INPUT if n not in targets else OUTPUT if n not in sources else NODE for n in names}


def dot_text(edges: Sequence[Edge], name: str = "cell") -> str:
    """The graph in the DOT language."""
    lines = [f'digraph "{name}" {{', "  rankdir=LR;", "  node [shape=rect, style=filled, fontsize=20, penwidth=2];"]
    lines += [f'  "{node}" [fillcolor={colour}];' for node, colour in node_colours(edges).items()]
    lines += [f'  "{a}" -> "{b}"' + (f' [label="{label}"];' if label else ";") for a, b, label in edges]
    return "\n".join([*lines, "}", ""])


def _columns(edges: Sequence[Edge]) -> dict[str, int]:
    """The length of the longest way from an input to each node."""
    column = dict.fromkeys(node_colours(edges), 0)
    for _ in column:
        for a, b, _label in edges:
            column[b] = max(column[b], column[a] + 1)
    if column and max(column.values()) >= len(column):
        raise UserError("the cell has a cycle and cannot be drawn; an edge must lead to a later node")
    return column


def draw_cells(edges: Sequence[Edge], path: Path | str, title: str = "") -> None:
    """Write the graph to ``path`` (svg, png, pdf by matplotlib; dot as text). Raises UserError for other formats."""
    path = Path(path)
    kind = path.suffix.lstrip(".")
    if kind not in FORMATS:
        raise UserError(f"cannot draw to {path.name!r}; use one of {', '.join(FORMATS)}")
    if kind == "dot":
        path.write_text(dot_text(edges, path.stem))
        return
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "cell"  # equal drawings are equal files
    from matplotlib import pyplot

    colours, column = node_colours(edges), _columns(edges)
    place: dict[str, tuple[float, float]] = {}
    order = list(colours)
    for c in range(max(column.values(), default=0) + 1):
        members = [n for n in order if column[n] == c]
        for row, node in enumerate(members):  # neighbours in a column are staggered, so that edges do not coincide
            place[node] = (2.6 * c, (len(members) - 1) / 2 * 2.0 - 2.0 * row + (0.55 if c % 2 else -0.25))
    width = 2.6 * max(column.values(), default=0) + 2.2
    figure, axes = pyplot.subplots(figsize=(max(width * 0.75, 4), 4.2))
    seen: dict[tuple[str, str], int] = {}
    for a, b, label in edges:
        count = seen[(a, b)] = seen.get((a, b), 0) + 1
        span = column[b] - column[a]
        bend = (-0.12 * (span - 1) if span > 1 else 0.0) + 0.22 * (count - 1)
        bend = -bend if place[a][1] < 0 else bend
        axes.annotate(
            "", place[b], place[a],
            arrowprops={"arrowstyle": "-|>", "color": "#444444" if label else "#999999", "shrinkA": 17, "shrinkB": 17,
                        "connectionstyle": f"arc3,rad={bend}"},
        )  # fmt: skip
        if label:
            (xa, ya), (xb, yb) = place[a], place[b]
            at = 0.42 if span == 1 else 0.5
            x, y = xa + (xb - xa) * at + bend * (yb - ya) / 2, ya + (yb - ya) * at - bend * (xb - xa) / 2
            axes.text(x, y, label, fontsize=8, ha="center", va="center",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85})  # fmt: skip
    for node, (x, y) in place.items():
        text = f"${node}$" if "_" in node else node
        axes.text(x, y, text, fontsize=12, ha="center", va="center",
                  bbox={"boxstyle": "round,pad=0.35", "facecolor": COLOURS[colours[node]],
                        "edgecolor": "#333333"})  # fmt: skip
    heights = [y for _, y in place.values()] or [0.0]
    axes.set_xlim(-0.9, width - 1.0)
    axes.set_ylim(min(heights) - 1.2, max(heights) + 1.2)
    axes.set_axis_off()
    if title:
        axes.set_title(title)
    metadata = {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else None
    figure.savefig(path, bbox_inches="tight", metadata=metadata, dpi=150)
    pyplot.close(figure)
