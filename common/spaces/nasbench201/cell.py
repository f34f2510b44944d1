"""A cell of NAS-Bench-201 as an object, and the notations that people paste. No torch at import.

Two codings of numbers are in use, so a text names the other one: ``autodl`` (NAS-Bench-201's own, the default) numbers
``none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3`` on the edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2;
``naslib`` numbers ``skip_connect, none, nor_conv_3x3, nor_conv_1x1, avg_pool_3x3`` on 1<-0, 2<-0, 3<-0, 2<-1, 3<-1,
3<-2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from common.data.nasbench201 import CELLS, EDGES, OPERATIONS, Table, to_operations, to_string
from common.errors import UserError
from common.spaces.pasted import plain
from common.words import suggestion

NASLIB_OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
NASLIB_EDGES = ((1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (3, 2))
CODINGS = {"autodl": (OPERATIONS, EDGES), "naslib": (NASLIB_OPERATIONS, NASLIB_EDGES)}
FORM = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"


@dataclass(frozen=True)
class Cell201:
    """A cell: its six operation numbers in the coding ``autodl``; ``str`` of it is the architecture string."""

    operations: tuple[int, ...]

    def __str__(self) -> str:
        return to_string(self.operations)

    @property
    def digits(self) -> str:
        """The six numbers as one word."""
        return "".join(map(str, self.operations))

    def numbers(self, coding: str = "autodl") -> tuple[int, ...]:
        """The six numbers in a coding."""
        names, edges = CODINGS[coding]
        by_edge = dict(zip(EDGES, self.operations))
        return tuple(names.index(OPERATIONS[by_edge[edge]]) for edge in edges)


def is_cell_text(text: str) -> bool:
    """Whether pasted text can be of this space: an architecture string, or numbers with or without a coding's name."""
    coding = text.partition(":")[0].strip().lower()
    return "~" in text or coding in CODINGS or re.fullmatch(r"[\s\d,;()\[\]]+", text) is not None


def cell(value: Any, source: str = "") -> Cell201:
    """The cell of an architecture string, six digits, six numbers, six names, AutoDL's nested nodes, or the benchmark's
    index (needs the tables); a text may name its coding, as in ``naslib: (3, 1, 0, 2, 4, 4)``.

    Raises UserError, which says the position and, for numbers, the coding.
    """
    if isinstance(value, Cell201):
        return value
    what = f"{source}: no NAS-Bench-201 cell" if source else "no NAS-Bench-201 cell"
    coding = "autodl"
    if isinstance(value, str):
        name, colon, rest = value.strip().partition(":")
        if colon and name.strip().lower() in CODINGS:
            coding, value = name.strip().lower(), rest.strip()
        if "~" in value:
            return Cell201(_of_string(value, what))
        digits = value.strip()
        value = [int(d) for d in digits] if re.fullmatch(r"\d{6}", digits) else plain(value, source)
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < CELLS:
            raise UserError(f"{what}: index {value} is not between 0 and {CELLS - 1}")
        return Cell201(tuple(int(op) for op in Table.open().operations[value]))
    if not isinstance(value, (list, tuple)):
        raise UserError(f"{what}: {value!r}; give {FORM}, or six numbers")
    items = list(value)
    if items and all(isinstance(node, (list, tuple)) for node in items):
        items = [_named_pair(pair, k, what) for k, pair in enumerate(pair for node in items for pair in node)]
    if len(items) != len(EDGES):
        raise UserError(f"{what}: {len(items)} operations; it has {len(EDGES)}, one an edge")
    edges = CODINGS[coding][1]
    by_edge = {edge: _operation(item, k, coding, what) for k, (edge, item) in enumerate(zip(edges, items, strict=True))}
    return Cell201(tuple(OPERATIONS.index(by_edge[edge]) for edge in EDGES))


def _operation(item: Any, position: int, coding: str, what: str) -> str:
    names, edges = CODINGS[coding]
    edge = "{}<-{}".format(*edges[position])
    if isinstance(item, str):
        if item not in OPERATIONS:
            raise UserError(f"{what}: operation {position} (edge {edge}) is {item!r}{suggestion(item, OPERATIONS)}; "
                            f"use {', '.join(OPERATIONS)}")  # fmt: skip
        return item
    if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item < len(names):
        meant = ", ".join(f"{k} {name}" for k, name in enumerate(names))
        raise UserError(f"{what}: operation {position} (edge {edge}) is {item!r}; coding {coding}: {meant}")
    return names[item]


def _named_pair(pair: Any, position: int, what: str) -> Any:
    """The operation of AutoDL's ('nor_conv_3x3', 0)."""
    if position >= len(EDGES) or not isinstance(pair, (list, tuple)) or len(pair) != 2 or pair[1] != EDGES[position][1]:
        wanted = f"; its edge reads node {EDGES[position][1]}" if position < len(EDGES) else "; a cell has six"
        raise UserError(f"{what}: pair {position} is {pair!r}{wanted}")
    return pair[0]


def _of_string(text: str, what: str) -> tuple[int, ...]:
    """Of an architecture string, with whatever a log writes around it; says which edge is wrong."""
    start, end = text.find("|"), text.rfind("|")
    inside = text[start : end + 1].replace(" ", "")
    nodes = [[edge for edge in node.split("|") if edge] for node in inside.split("+")]
    if start < 0 or [len(node) for node in nodes] != [1, 2, 3]:
        counts = [len(node) for node in nodes]
        raise UserError(f"{what}: {text.strip()[:80]!r} has {counts} edges by node; expected {FORM}")
    for position, (edge, (to, source)) in enumerate(zip((e for node in nodes for e in node), EDGES)):
        name, _, read = edge.partition("~")
        if name not in OPERATIONS or read != str(source):
            known = suggestion(name, OPERATIONS) if name not in OPERATIONS else ""
            raise UserError(f"{what}: edge {position} ({to}<-{source}) is {edge!r}{known}; expected op~{source} with "
                            f"{', '.join(OPERATIONS)}")  # fmt: skip
    return to_operations(inside)
