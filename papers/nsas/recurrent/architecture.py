"""Recurrent cells as data: the published one, files, and what they must look like. No torch here."""

from __future__ import annotations

from operator import index
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError
from common.spaces.architecture import load_architecture
from common.spaces.pasted import inside, is_pasted
from common.words import hint

ACTIVATIONS = ("none", "tanh", "relu", "sigmoid", "identity")  # the index is the operation of an encoded cell
STEPS = 8  # nodes of a cell


class Recurrent(NamedTuple):
    """A recurrent cell: (activation, state that it reads) of nodes 1..8, and the states whose mean is the output."""

    recurrent: tuple[tuple[str, int], ...]
    concat: tuple[int, ...]

    def as_names(self) -> dict[str, list]:
        """Plain lists for files."""
        return {"recurrent": [list(pair) for pair in self.recurrent], "concat": list(self.concat)}


RECURRENT = {
    "Random_NSAS": Recurrent(
        (
            ("sigmoid", 0), ("sigmoid", 0), ("tanh", 2), ("tanh", 2),
            ("sigmoid", 3), ("relu", 4), ("tanh", 3), ("relu", 5),
        ),
        tuple(range(1, STEPS + 1)),
    ),
}  # fmt: skip


def load_cell(name: str) -> Recurrent:
    """A published recurrent cell by name, or an architecture file of space "darts-rnn". UserError when malformed."""
    if name in RECURRENT:
        return RECURRENT[name]
    name = inside(name)
    if is_pasted(name):
        from papers.nsas.use import architecture

        found = architecture(name)
        if not isinstance(found, Recurrent):
            raise UserError(f"{name[:40]!r} is no recurrent cell; give Genotype(recurrent=[…], concat=…)")
        return found
    if not name.endswith(".json"):
        raise UserError(
            f"unknown recurrent cell {name!r}{hint(name, RECURRENT)}; use a file or one of {', '.join(RECURRENT)}"
        )
    return recurrent_of(load_architecture(Path(name), "darts-rnn"), name)


def recurrent_of(found: Any, name: str) -> Recurrent:
    """The cell of a file's record; ``name`` is the file's, for messages.

    Raises UserError unless it has eight nodes with known activations that read states which exist already.
    """
    try:
        nodes = tuple((str(f), index(p)) for f, p in found["recurrent"])
        concat = tuple(index(i) for i in found["concat"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{name}: a recurrent cell has 'recurrent' (activation, input) pairs and 'concat'") from None
    if len(nodes) != STEPS:
        raise UserError(f"{name}: the recurrent cell has {len(nodes)} pairs; it needs {STEPS}")
    for node, (function, source) in enumerate(nodes):
        if function not in ACTIVATIONS:
            raise UserError(
                f"{name}: unknown activation {function!r} in node {node + 1}; use one of {', '.join(ACTIVATIONS)}"
            )
        if not 0 <= source <= node:
            raise UserError(f"{name}: node {node + 1} reads state {source}; it can read states 0 to {node}")
    if not concat or any(not 0 < i <= len(nodes) for i in concat):
        raise UserError(f"{name}: concat must name states between 1 and {len(nodes)}")
    if len(set(concat)) < len(concat):
        raise UserError(f"{name}: concat {list(concat)} names a state twice")
    return Recurrent(nodes, concat)
