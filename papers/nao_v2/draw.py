"""Both cells as pictures: an edge carries its operation, loose ends lead to the output."""

from __future__ import annotations

from typing import Any

from common.cli.errors import UserError
from common.run.files import make_folder
from common.spaces.drawing import FORMATS, Edge, draw_cells
from papers.nao_v2.network.architectures import SPACES, Cell, edges, load, loose_ends, space_of

INPUTS = ("c_{k-2}", "c_{k-1}")


def labelled_edges(cell: Cell, space: str) -> list[Edge]:
    """(from, to, operation): states 0 and 1 are ``c_{k-2}`` and ``c_{k-1}``, state n is ``n``, the output ``c_{k}``.

    An input that no node reads is a loose end too, and leads straight to the output.
    """
    names = {state: INPUTS[state] if state < 2 else str(state) for state in range(len(cell) // 4 + 2)}
    found: list[Edge] = []
    for node, (i1, o1, i2, o2) in enumerate(edges(cell), 2):
        found += [(names[state], names[node], SPACES[space][operation]) for state, operation in ((i1, o1), (i2, o2))]
    return found + [(names[state], "c_{k}", None) for state in loose_ends(cell)]


def run_draw(settings: Any, options: Any) -> dict[str, Any]:
    """The ``draw`` verb: <out>/normal.<format> and <out>/reduction.<format>. Raises UserError for another format."""
    if settings.format not in FORMATS:
        raise UserError(f"cannot draw as {settings.format!r}; use one of {', '.join(FORMATS)}")
    space = space_of(settings.arch, settings.space)
    architecture = load(settings.arch, space)
    folder = options.folder
    make_folder(folder)
    files = []
    for title, cell in zip(("normal", "reduction"), architecture, strict=True):
        path = folder / f"{title}.{settings.format}"
        draw_cells(labelled_edges(cell, space), path, title=f"{title} cell")
        files.append(str(path))
    return {"files": files}
