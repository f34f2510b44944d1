"""Both cells as a picture: nodes with their two operations, loose ends joined to the output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from papers.nao_v2.architectures import SPACES, Cell, edges, load, loose_ends, space_of


def labelled_edges(cell: Cell, space: str) -> list[tuple[str, str, str]]:
    """(from, to, operation): states 0 and 1 are ``c_{k-2}`` and ``c_{k-1}``, node n is ``n``, the output ``c_k``."""
    names = {0: "c_{k-2}", 1: "c_{k-1}"}
    found = []
    for node, (i1, o1, i2, o2) in enumerate(edges(cell), 2):
        for state, operation in ((i1, o1), (i2, o2)):
            found.append((names.get(state, str(state)), str(node), SPACES[space][operation]))
    return found + [(names.get(state, str(state)), "c_k", "") for state in loose_ends(cell)]


def dot(cell: Cell, space: str, name: str) -> str:
    """Graphviz text."""
    lines = [f'  "{a}" -> "{b}" [label="{label}"];' for a, b, label in labelled_edges(cell, space)]
    return f"digraph {name} {{\n  rankdir=LR;\n" + "\n".join(lines) + "\n}\n"


def run_draw(settings: Any, options: Any) -> dict[str, Any]:
    """The ``draw`` verb: <out>/{normal,reduction}.dot and cells.{png,svg}."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from common.records import write_text

    space = space_of(settings.arch, settings.space)
    architecture = load(settings.arch, space)
    folder = Path(options.out) if options.out else Path("results") / "drawings" / "nao_v2"
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(2, 1, figsize=(11, 7))
    files = []
    for axis, cell, title in zip(axes, architecture, ("normal", "reduction")):
        write_text(folder / f"{title}.dot", dot(cell, space, title))
        files.append(str(folder / f"{title}.dot"))
        nodes = ["c_{k-2}", "c_{k-1}", *(str(n + 2) for n in range(len(cell) // 4)), "c_k"]
        place = {name: (k, 0.0) for k, name in enumerate(nodes)}
        place["c_{k-2}"] = (0.4, 0.35)
        for number, (a, b, label) in enumerate(labelled_edges(cell, space)):
            (x0, y0), (x1, y1) = place[a], place[b]
            bend = (0.18 + 0.05 * (number % 4)) * (1 if number % 2 else -1)
            arrow = {
                "arrowstyle": "->",
                "color": "#8aa" if b == "c_k" else "#335",
                "connectionstyle": f"arc3,rad={bend}",
            }
            axis.annotate("", (x1, y1), (x0, y0), arrowprops=arrow)
            axis.text((x0 + x1) / 2, (y0 + y1) / 2 - bend * (x1 - x0) / 2, label, fontsize=7, ha="center")
        for name, (x, y) in place.items():
            box = {"boxstyle": "round", "facecolor": "#e8f0f7", "edgecolor": "#335"}
            axis.text(x, y, f"${name}$", ha="center", va="center", bbox=box)
        axis.set(title=title, xlim=(-0.5, len(nodes) - 0.5), ylim=(-1.4, 1.4))
        axis.axis("off")
    for suffix in ("png", "svg"):
        files.append(str(folder / f"cells.{suffix}"))
        figure.savefig(files[-1], bbox_inches="tight", dpi=120)
    pyplot.close(figure)
    return {"files": files}
