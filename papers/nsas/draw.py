"""Drawings of the cells in the authors' style: pairs as labelled edges, inputs green, output yellow (section 10)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from common.data.nasbench201 import drawn_edges
from common.run.files import make_folder
from common.spaces.architecture import read_architecture
from papers.nsas.network.architectures import PRIMITIVES
from papers.nsas.network.networks import load_cnn
from papers.nsas.recurrent.architecture import load_cell
from papers.nsas.settings import Draw

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

INPUT, NODE, OUTPUT = "darkseagreen2", "lightblue", "palegoldenrod"
Edge = tuple[str, str, str | None]


def cnn_graph(cell) -> tuple[list[tuple[str, str]], list[Edge]]:
    """Nodes (name, colour) and edges (from, to, label) of a cell; ``none`` edges are drawn."""
    names = {0: "c_{k-2}", 1: "c_{k-1}"} | {i: str(i - 2) for i in range(2, 6)}
    nodes = [("c_{k-2}", INPUT), ("c_{k-1}", INPUT), *((str(i), NODE) for i in range(4)), ("c_{k}", OUTPUT)]
    edges: list[Edge] = [(names[state], str(slot // 2), PRIMITIVES[op]) for slot, (op, state) in enumerate(cell)]
    edges += [(str(i), "c_{k}", None) for i in range(4)]
    return nodes, edges


def recurrent_graph(recurrent) -> tuple[list[tuple[str, str]], list[Edge]]:
    """x_{t} and h_{t-1} into node 0, then one labelled edge a node, all nodes into h_{t}."""
    count = len(recurrent)
    nodes = [("x_{t}", INPUT), ("h_{t-1}", INPUT), *((str(i), NODE) for i in range(count + 1)), ("h_{t}", OUTPUT)]
    edges: list[Edge] = [("x_{t}", "0", None), ("h_{t-1}", "0", None)]
    edges += [(str(source), str(i + 1), function) for i, (function, source) in enumerate(recurrent)]
    edges += [(str(i), "h_{t}", None) for i in range(1, count + 1)]
    return nodes, edges


def nasbench201_cell(arch: str) -> str | None:
    """The architecture string, if that is what was given or what the file holds."""
    if arch.startswith("|"):
        return arch
    if arch.endswith(".json"):
        document = read_architecture(Path(arch))
        return document["architecture"] if document["space"] == "nasbench201" else None
    return None


def draw(settings: Draw, options: RunOptions) -> dict:
    """Write one picture a cell, and its DOT text beside it."""
    from common.spaces import drawing

    folder = options.folder
    make_folder(folder)
    if settings.recurrent:
        graphs = {"recurrent": recurrent_graph(load_cell(settings.arch).recurrent)}
    elif (cell := nasbench201_cell(settings.arch)) is not None:
        graphs = {"cell": ([], drawn_edges(cell))}
    else:
        architecture = load_cnn(settings.arch)
        graphs = {"normal": cnn_graph(architecture.normal), "reduction": cnn_graph(architecture.reduce)}
    written = []
    for name, (nodes, edges) in graphs.items():
        inputs = [node for node, colour in nodes if colour == INPUT]
        for kind in dict.fromkeys((settings.format, "dot")):
            path = folder / f"{name}.{kind}"
            drawing.draw_cells(edges, path, inputs=inputs)
            written.append(str(path))
    return {"files": written}
