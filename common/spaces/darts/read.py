"""A genotype from what people have at hand: a pasted ``Genotype(...)``, lists, dicts, another program's tuple.

No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import UserError
from common.spaces.darts.genotype import CONCAT, NODES, Genotype
from common.spaces.pasted import Call

WORDS = ("normal", "normal_concat", "reduce", "reduce_concat")


def mapping_of(value: Any, words: Sequence[str], what: str) -> dict[str, Any]:
    """A call, a mapping or a named tuple as a dict; positional values in the order of ``words``. Raises UserError."""
    if isinstance(value, Call):
        try:
            return value.named(*words)
        except UserError as error:
            raise UserError(f"{what}: {error}") from None
    if isinstance(value, Mapping):
        return dict(value)
    if all(hasattr(value, word) for word in words):
        return {word: getattr(value, word) for word in words}
    if isinstance(value, (list, tuple)) and len(value) == len(words):
        return dict(zip(words, value, strict=True))
    raise UserError(f"{what}: needs {', '.join(words)}, as Genotype({words[0]}=[('sep_conv_3x3', 0), …], …) has them")


def genotype(value: Any, source: str = "") -> Genotype:
    """The genotype of plain values, as calls, dicts or tuples have them; pairs may be grouped by node.

    Raises UserError, which names cell, pair and what is wrong with it.
    """
    if isinstance(value, Genotype):
        return value
    what = f"{source}: not a DARTS genotype" if source else "not a DARTS genotype"
    found = mapping_of(value, WORDS, what)
    cells: dict[str, Any] = {}
    for kind in ("normal", "reduce"):
        if kind not in found:
            raise UserError(f"{what}: the {kind} cell is missing")
        cells[kind] = pairs_of(found[kind], f"{what}: the {kind} cell")
        concat = found.get(f"{kind}_concat", CONCAT)
        if isinstance(concat, str) or not all(isinstance(i, int) for i in _items(concat, what, f"{kind}_concat")):
            raise UserError(f"{what}: {kind}_concat must be states, such as range(2, {2 + NODES}), not {concat!r}")
        cells[f"{kind}_concat"] = list(concat)
    return Genotype.from_dict(cells, source)


def pairs_of(value: Any, what: str) -> list[tuple[str, int]]:
    """(name, state) pairs of a cell, grouped by node or not. Raises UserError, which says the pair's number."""
    items = _items(value, what, "pairs")
    if items and all(isinstance(i, (list, tuple)) and i and isinstance(i[0], (list, tuple)) for i in items):
        items = [pair for node in items for pair in node]
    found = []
    for number, pair in enumerate(items):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise UserError(f"{what}: pair {number} is {pair!r}; it must be (operation, state)")
        name, state = pair
        if isinstance(name, int) and isinstance(state, str):
            raise UserError(f"{what}: pair {number} is {pair!r}, the wrong way round; it must be (operation, state)")
        if not isinstance(name, str) or not isinstance(state, int):
            raise UserError(f"{what}: pair {number} is {pair!r}; it must be (operation, state)")
        found.append((name, int(state)))
    return found


def _items(value: Any, what: str, word: str) -> list[Any]:
    if isinstance(value, (list, tuple, range)):
        return list(value)
    raise UserError(f"{what}: {word} must be a list, not {value!r}")
