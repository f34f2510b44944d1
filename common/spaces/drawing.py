"""Pictures of cells: a directed graph from left to right, drawn by matplotlib or written as DOT text.

Edges are (from, to, operation or None). Inputs are green, the output yellow, all other nodes blue, as in the field's
drawings. What nothing of the input reaches, and an input that nothing reads, is grey with a dashed border; an edge that
carries zeros is pale and dashed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.data.names import exists
from common.errors import UserError
from common.run.files import make_folder, write_figure, write_text
from common.spaces.layered import Box, Edge, Layout, layout, text_width

INPUT, NODE, OUTPUT, IDLE = "darkseagreen2", "lightblue", "palegoldenrod", "gray94"
COLOURS = {INPUT: "#b4eeb4", NODE: "#add8e6", OUTPUT: "#eee8aa", IDLE: "#f0f0f0"}
FORMATS = ("svg", "png", "pdf")
CELL_FORMATS = (*FORMATS, "dot")
INK, PALE = "#333333", "#9aa5b1"
TITLE, NAME, LABEL = 11.0, 10.0, 8.0
"""Sizes of the letters, points."""
MARGIN = 0.15
"""Inches around a drawing."""
HEAD = 0.1
"""Length of an arrow's head, inches."""
DPI = 150
GRAPH_STYLE = {"rankdir": "LR"}
NODE_STYLE = {
    "style": "filled", "shape": "rect", "align": "center", "fontsize": "20", "height": "0.5", "width": "0.5",
    "penwidth": "2", "fontname": "times",
}  # fmt: skip
EDGE_STYLE = {"fontsize": "20", "fontname": "times"}
EACH_EDGE_STYLE = {"fillcolor": "gray"}


@dataclass(frozen=True)
class Graph:
    """A cell. inputs, outputs: nodes that are drawn even where no edge names them. zero: operations that give zeros."""

    title: str
    edges: tuple[Edge, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    zero: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Inputs, the other nodes in order of first appearance, outputs."""
        inner = dict.fromkeys(name for a, b, _ in self.edges for name in (a, b))
        return list(dict.fromkeys([*self.inputs, *(n for n in inner if n not in self.outputs), *self.outputs]))

    @property
    def alive(self) -> set[str]:
        """Nodes that something of an input reaches, and inputs that something reads."""
        real = [(a, b) for a, b, label in self.edges if label not in self.zero or label is None]
        sources = self.inputs or tuple(n for n in self.names if not any(b == n for _, b, _ in self.edges))
        reached = set(sources)
        while new := {b for a, b in real if a in reached} - reached:
            reached |= new
        return reached - {n for n in sources if not any(a == n for a, _ in real)}

    @property
    def colours(self) -> dict[str, str]:
        """Node -> X11 colour name."""
        kinds = node_colours(self.edges, self.names)
        if self.inputs:  # a node without an edge to it is no input
            kinds = dict.fromkeys(self.names, NODE) | dict.fromkeys(self.inputs, INPUT)
        kinds |= dict.fromkeys(self.outputs, OUTPUT)
        alive = self.alive
        return {name: kinds[name] if name in alive else IDLE for name in self.names}


def node_colours(edges: Sequence[Edge], inputs: Sequence[str] = ()) -> dict[str, str]:
    """Node -> X11 colour name by its edges alone: inputs first, then the others in order of first appearance."""
    sources, targets = {a for a, _, _ in edges}, {b for _, b, _ in edges}
    names = dict.fromkeys([*inputs, *(name for a, b, _ in edges for name in (a, b))])
    return {n: INPUT if n not in targets else OUTPUT if n not in sources else NODE for n in names}


def _attributes(values: Mapping[str, str]) -> str:
    return "[" + ", ".join(f'{name}="{value}"' for name, value in values.items()) + "]"


def dot_text(graph: Graph) -> str:
    """The graph in the DOT language, in the style of the field's ``visualize.py``."""
    name = graph.title.replace('"', "'")
    lines = [f'digraph "{name}" {{', f"  graph {_attributes(GRAPH_STYLE)};", f"  node {_attributes(NODE_STYLE)};"]
    lines += [f"  edge {_attributes(EDGE_STYLE)};"]
    lines += [f'  "{node}" [fillcolor={colour}];' for node, colour in graph.colours.items()]
    for a, b, label in graph.edges:
        lines += [f'  "{a}" -> "{b}" {_attributes(({"label": label} if label else {}) | EACH_EDGE_STYLE)};']
    return "\n".join([*lines, "}", ""])


def placed(graph: Graph) -> Layout:
    """Where everything stands. Raises UserError for a cycle."""
    try:
        return layout(graph.names, graph.edges, graph.inputs, graph.outputs, (NAME, LABEL))
    except ValueError:
        raise UserError("the cell has a cycle and cannot be drawn; an edge must lead to a later node") from None


def canvas(graph: Graph, place: Layout) -> tuple[float, float]:
    """Width and height of the picture in inches; the title stands over the graph."""
    width = max(place.width, text_width(graph.title, TITLE)) + 2 * MARGIN
    return width, place.height + 2 * MARGIN + (0.35 if graph.title else 0.0)


def draw_graph(graph: Graph, path: Path | str) -> None:
    """Write the graph to ``path``: svg, png or pdf; dot as text. Raises UserError for other formats and cycles."""
    path = Path(path)
    kind = path.suffix.lstrip(".")
    if kind not in CELL_FORMATS:
        raise UserError(f"cannot draw to {path.name!r}; use one of {', '.join(CELL_FORMATS)}")
    if kind == "dot":
        write_text(path, dot_text(graph))
        return
    place = placed(graph)
    width, height = canvas(graph, place)
    figure, axes = blank(width, height)
    if graph.title:
        axes.text(
            width / 2, height - MARGIN - 0.08, plain(graph.title), fontsize=TITLE, ha="center", va="center", color=INK
        )
    shift = ((width - place.width) / 2, MARGIN)
    alive, colours = graph.alive, graph.colours
    for number, (a, b, label) in enumerate(graph.edges):
        pale = a not in alive or (label is not None and label in graph.zero)
        _edge(axes, place, number, (a, b), shift, pale)
        if label:
            box = place.labels[number]
            axes.text(box.x + shift[0], box.y + shift[1], label, fontsize=LABEL, ha="center", va="center",
                      color=PALE if pale else INK,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip
    for name, box in place.nodes.items():
        _node(axes, name, box, shift, COLOURS[colours[name]], name not in alive)
    save(figure, path)


def _edge(axes: Any, place: Layout, number: int, ends: tuple[str, str], shift: tuple[float, float], pale: bool) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    first, last = place.nodes[ends[0]], place.nodes[ends[1]]
    line = place.curves[number]
    points, codes = [(first.right, line[0][0][1])], [Curve.MOVETO]
    for step, ((xa, ya), (xb, yb)) in enumerate(line):
        xb -= HEAD if step == len(line) - 1 else 0.0  # the arrow's head lies level
        middle = (xa + xb) / 2
        points += [(xa, ya), (middle, ya), (middle, yb), (xb, yb)]
        codes += [Curve.LINETO, *[Curve.CURVE4] * 3]
    points.append((last.left, line[-1][1][1]))
    codes.append(Curve.LINETO)
    moved = [(x + shift[0], y + shift[1]) for x, y in points]
    arrow = FancyArrowPatch(path=Curve(moved, codes), arrowstyle="-|>", mutation_scale=8, lw=0.9, shrinkA=0, shrinkB=0)
    arrow.set(color=PALE if pale else "#555555", linestyle="--" if pale else "-")
    axes.add_patch(arrow)


def _node(axes: Any, name: str, box: Box, shift: tuple[float, float], colour: str, idle: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner = (box.left + shift[0] + 0.05, box.y - box.height / 2 + shift[1] + 0.05)
    around = FancyBboxPatch(corner, box.width - 0.1, box.height - 0.1, boxstyle="round,pad=0.05,rounding_size=0.06")
    around.set(facecolor=colour, edgecolor=PALE if idle else INK, linestyle="--" if idle else "-", lw=1.0)
    axes.add_patch(around)
    axes.text(box.x + shift[0], box.y + shift[1], f"${name}$" if "_" in name else name, fontsize=NAME, ha="center",
              va="center", color=PALE if idle else "black")  # fmt: skip


def plain(title: str) -> str:
    """A title whose dollar signs are no mathematics."""
    return title.replace("$", r"\$")


def blank(width: float, height: float) -> tuple[Any, Any]:
    """A white matplotlib figure of that many inches, and axes on it in inches from the lower left corner."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "cell"  # equal drawings are equal files
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def save(figure: Any, path: Path) -> None:
    """Write and close a figure; equal figures are equal files."""
    from matplotlib import pyplot

    kind = path.suffix.lstrip(".")
    metadata = {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else None
    write_figure(figure, path, metadata=metadata, dpi=DPI)
    pyplot.close(figure)


def draw_cells(cells: Mapping[str, Graph], folder: Path, kind: str) -> dict[str, Any]:
    """<folder>/<name>.<kind> of every cell; what the ``draw`` verbs return."""
    make_folder(folder)
    written = []
    for name, graph in cells.items():
        draw_graph(graph, folder / f"{name}.{kind}")
        written.append(str(folder / f"{name}.{kind}"))
    return {"files": written}


def name_of(arch: str) -> str:
    """What a title calls an architecture: its published name, the run or file that holds it, or "pasted"."""
    try:
        there = exists(arch)
    except OSError:  # longer than a file name can be
        there = False
    if not there:
        return arch if re.fullmatch(r"[\w.+-]{1,40}", arch) else "pasted"
    path = Path(arch)
    if path.name == "architecture.json" and len(path.parts) > 1:
        path = path.parent
    run = len({"smoke", "proxy", "paper"} & set(path.parts)) and not path.suffix  # results/<profile>/<paper>/<stage>
    return "/".join(path.parts[-2:]) if run else path.name
