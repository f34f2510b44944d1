"""Drawing a cell: a directed graph from left to right, as a picture (matplotlib) or as DOT text.

Edges are (from, to, label or None), nodes are named by the edges. Inputs are the nodes nothing leads to (green),
outputs those nothing leaves (yellow), all others blue, as in the field's drawings; ``inputs`` are drawn even where no
edge names them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import UserError
from common.run.files import write_figure, write_text

Edge = tuple[str, str, str | None]
INPUT, NODE, OUTPUT = "darkseagreen2", "lightblue", "palegoldenrod"
COLOURS = {INPUT: "#b4eeb4", NODE: "#add8e6", OUTPUT: "#eee8aa"}
FORMATS = ("svg", "png", "pdf", "dot")


def node_colours(edges: Sequence[Edge], inputs: Sequence[str] = ()) -> dict[str, str]:
    """Node -> X11 colour name: the inputs, then the others in order of first appearance."""
    sources, targets = {a for a, _, _ in edges}, {b for _, b, _ in edges}
    names = dict.fromkeys([*inputs, *(name for a, b, _ in edges for name in (a, b))])
    return {n: INPUT if n not in targets else OUTPUT if n not in sources else NODE for n in names}


GRAPH_STYLE = {"rankdir": "LR"}
NODE_STYLE = {
    "style": "filled", "shape": "rect", "align": "center", "fontsize": "20", "height": "0.5", "width": "0.5",
    "penwidth": "2", "fontname": "times",
}  # fmt: skip
EDGE_STYLE = {"fontsize": "20", "fontname": "times"}
EACH_EDGE_STYLE = {"fillcolor": "gray"}


def _attributes(values: Mapping[str, str]) -> str:
    return "[" + ", ".join(f'{name}="{value}"' for name, value in values.items()) + "]"


def dot_text(edges: Sequence[Edge], name: str = "cell", inputs: Sequence[str] = ()) -> str:
    """The graph in the DOT language, in the style of the field's ``visualize.py``."""
    lines = [f'digraph "{name}" {{', f"  graph {_attributes(GRAPH_STYLE)};", f"  node {_attributes(NODE_STYLE)};"]
    lines += [f"  edge {_attributes(EDGE_STYLE)};"]
    lines += [f'  "{node}" [fillcolor={colour}];' for node, colour in node_colours(edges, inputs).items()]
    for a, b, label in edges:
        lines += [f'  "{a}" -> "{b}" {_attributes(({"label": label} if label else {}) | EACH_EDGE_STYLE)};']
    return "\n".join([*lines, "}", ""])


def _order(edges: Sequence[Edge], inputs: Sequence[str]) -> list[list[str]]:
    """Columns of the picture: all inputs, then one node each, sources before targets. Raises UserError for a cycle."""
    names = list(node_colours(edges, inputs))
    into: dict[str, set[str]] = {name: {a for a, b, _ in edges if b == name} for name in names}
    columns, placed = [[n for n in names if not into[n]]], {n for n in names if not into[n]}
    while len(placed) < len(names):
        ready = next((n for n in names if n not in placed and into[n] <= placed), None)
        if ready is None:
            raise UserError("the cell has a cycle and cannot be drawn; an edge must lead to a later node")
        columns.append([ready])
        placed.add(ready)
    return columns


Point = tuple[float, float]
LEVELS = (0.0, 1.1, -1.1, 2.2, -2.2)
"""Heights a node can take, in the units of ``STEP``."""
STEP = 2.3
"""Distance of two columns."""


def _distance(p: Point, a: Point, b: Point) -> float:
    """From a point to a segment."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    t = max(0.0, min(1.0, ((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / (dx * dx + dy * dy)))
    return math.hypot(p[0] - a[0] - t * dx, p[1] - a[1] - t * dy)


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether two segments cross inside."""

    def side(p: Point, q: Point, r: Point) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def _cost(place: dict[str, Point], pairs: list[tuple[str, str]]) -> float:
    """Edges that run through a node weigh most, then crossings, then length."""
    cost = 0.0
    for i, (a, b) in enumerate(pairs):
        through = [n for n in place if n not in (a, b) and _distance(place[n], place[a], place[b]) < 0.45]
        crossed = [q for q in pairs[:i] if not {a, b} & set(q) and _cross(place[a], place[b], place[q[0]], place[q[1]])]
        cost += 20 * len(through) + 2 * len(crossed) + 0.2 * math.dist(place[a], place[b])
    return cost


def layout(edges: Sequence[Edge], inputs: Sequence[str] = ()) -> dict[str, Point]:
    """Node -> (x, y): columns from left to right, heights by descent of the cost, one node after the other."""
    columns = _order(edges, inputs)
    pairs = list(dict.fromkeys((a, b) for a, b, _ in edges))
    place = {
        node: (STEP * c, 2.2 * ((len(members) - 1) / 2 - row))
        for c, members in enumerate(columns)
        for row, node in enumerate(members)
    }
    inner = [node for members in columns[1:-1] for node in members]
    for k, node in enumerate(inner):  # a start in which no two neighbours share a height
        place[node] = (place[node][0], LEVELS[1 + k % 4])
    best = _cost(place, pairs)
    while True:
        before = best
        for node in inner:
            for level in LEVELS:
                trial = {**place, node: (place[node][0], level)}
                if (cost := _cost(trial, pairs)) < best - 1e-9:
                    place, best = trial, cost
        if best == before:
            return place


def _labels(edges: Sequence[Edge], place: dict[str, Point]) -> list[Point]:
    """Where each edge's label sits: the first spot on its edge that is free of nodes and of earlier labels."""
    taken: list[tuple[Point, float]] = [(point, 0.3) for point in place.values()]
    spots = []
    seen: dict[tuple[str, str], int] = {}
    for a, b, label in edges:
        seen[(a, b)] = seen.get((a, b), 0) + 1
        half = 0.05 * len(label or "")
        (xa, ya), (xb, yb) = place[a], place[b]
        shift = -0.25 * (seen[(a, b)] - 1)  # a second edge between the same nodes is bent downwards
        tries = [(xa + (xb - xa) * t, ya + (yb - ya) * t + shift) for t in (0.5, 0.6, 0.4, 0.7, 0.3, 0.78, 0.22)]

        def overlap(point: Point, half: float = half) -> float:
            return sum(
                max(0.0, half + other - abs(point[0] - x)) * max(0.0, 0.24 - abs(point[1] - y))
                for (x, y), other in taken
            )

        spot = min(tries, key=overlap)  # ties: the first
        if label:
            taken.append((spot, half))
        spots.append(spot)
    return spots


def draw_cells(edges: Sequence[Edge], path: Path | str, title: str = "", inputs: Sequence[str] = ()) -> None:
    """Write the graph to ``path`` (svg, png, pdf by matplotlib; dot as text). Raises UserError for other formats."""
    path = Path(path)
    kind = path.suffix.lstrip(".")
    if kind not in FORMATS:
        raise UserError(f"cannot draw to {path.name!r}; use one of {', '.join(FORMATS)}")
    if kind == "dot":
        write_text(path, dot_text(edges, path.stem, inputs))
        return
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "cell"  # equal drawings are equal files
    from matplotlib import pyplot

    colours, place = node_colours(edges, inputs), layout(edges, inputs)
    heights = [y for _, y in place.values()] or [0.0]
    width, height = max((x for x, _ in place.values()), default=0.0) + 1.4, max(heights) - min(heights) + 1.2
    figure, axes = pyplot.subplots(figsize=(max(0.75 * width, 3.0), 0.75 * height))
    seen: dict[tuple[str, str], int] = {}
    for (a, b, label), (x, y) in zip(edges, _labels(edges, place), strict=True):
        seen[(a, b)] = seen.get((a, b), 0) + 1
        axes.annotate(
            "", place[b], place[a],
            arrowprops={"arrowstyle": "-|>", "color": "#444444" if label else "#aaaaaa", "shrinkA": 15, "shrinkB": 15,
                        "connectionstyle": f"arc3,rad={0.2 * (seen[(a, b)] - 1)}"},
        )  # fmt: skip
        if label:
            axes.text(x, y, label, fontsize=8, ha="center", va="center",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85})  # fmt: skip
    for node, (x, y) in place.items():
        text = f"${node}$" if "_" in node else node
        axes.text(x, y, text, fontsize=12, ha="center", va="center",
                  bbox={"boxstyle": "round,pad=0.35", "facecolor": COLOURS[colours[node]],
                        "edgecolor": "#333333"})  # fmt: skip
    axes.set_xlim(-0.7, width - 0.7)
    axes.set_ylim(min(heights) - 0.6, max(heights) + 0.6)
    axes.set_axis_off()
    if title:
        axes.set_title(title)
    metadata = {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else None
    write_figure(figure, path, bbox_inches="tight", metadata=metadata, dpi=150)
    pyplot.close(figure)
