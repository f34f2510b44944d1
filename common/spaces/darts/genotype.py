"""The DARTS space as data: its operations by name, the edges of a cell; genotypes of published names, files and what
people have at hand (a pasted ``Genotype(...)``, lists, dicts, another program's tuple). No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import index
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.spaces.architecture import load_architecture
from common.spaces.pasted import Call, given, inside, is_pasted, plain
from common.words import suggestion

PRIMITIVES = (
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect",
    "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
NEVER_SEARCHED = ("sep_conv_7x7", "conv_7x1_1x7")  # the authors' programs build them too
NODES = 4
CELL_EDGES = tuple((node, state) for node in range(NODES) for state in range(node + 2))  # 14 pairs, row by row
CONCAT = tuple(range(2, 2 + NODES))  # the states that a cell of this space puts out
INPUTS = ("c_{k-2}", "c_{k-1}")  # the two input states in a drawing
WORDS = ("normal", "normal_concat", "reduce", "reduce_concat")
Pair = tuple[str, int]


@dataclass(frozen=True)
class Genotype:
    """Eight (operation, input state) pairs a cell, two a node in order; states 0 and 1 are the cell's inputs."""

    normal: tuple[Pair, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Pair, ...]
    reduce_concat: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain lists, as an architecture file holds them."""
        return {k: [list(p) if isinstance(p, tuple) else p for p in v] for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: Any, source: str = "") -> Genotype:
        """From plain lists. Raises UserError, which names ``source``, for anything that is no genotype."""
        what = f"{source}: not a DARTS genotype" if source else "not a DARTS genotype"
        try:
            cells = {k: tuple((str(op), index(state)) for op, state in content[k]) for k in ("normal", "reduce")}
            outputs = {k: tuple(index(i) for i in content.get(f"{k}_concat", CONCAT)) for k in cells}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UserError(f"{what}: needs normal and reduce, lists of eight [operation, input] pairs") from None
        for kind, pairs in cells.items():
            if len(pairs) != 2 * NODES:
                raise UserError(f"{what}: the {kind} cell has {len(pairs)} pairs; it needs {2 * NODES} (two a node)")
            for slot, (operation, state) in enumerate(pairs):
                node = slot // 2
                if operation not in (*PRIMITIVES, *NEVER_SEARCHED):
                    raise UserError(
                        f"{what}: unknown operation {operation!r} ({kind}, pair {slot}); use {', '.join(PRIMITIVES)}"
                    )
                if not 0 <= state < node + 2:
                    raise UserError(
                        f"{what}: pair {slot} of the {kind} cell reads state {state}, which comes later; node {node} "
                        f"can read 0 to {node + 1}"
                    )
            if not outputs[kind] or not all(0 <= i < 2 + NODES for i in outputs[kind]):
                raise UserError(f"{what}: the {kind} cell concatenates {list(outputs[kind])}; states are 0 to 5")
            if len(set(outputs[kind])) < len(outputs[kind]):
                raise UserError(f"{what}: the {kind} cell concatenates {list(outputs[kind])}, a state twice")
        if min(outputs["reduce"]) < 2:
            raise UserError(
                f"{what}: the reduction cell concatenates {list(outputs['reduce'])}; its inputs 0 and 1 are twice as "
                f"wide as its nodes, 2 to 5"
            )
        return cls(cells["normal"], outputs["normal"], cells["reduce"], outputs["reduce"])


def load_genotype(name: str, published: Mapping[str, Genotype]) -> Genotype:
    """A published cell by name, an architecture file of space "darts", or pasted text. Raises UserError."""
    if name in published:
        return published[name]
    name = inside(name)
    if is_pasted(name):
        found = given(name, published)
        return genotype(plain(found.text, found.where) if found.text else found.value, found.where)
    if not name.endswith(".json"):
        raise UserError(
            f"unknown architecture {name!r}{suggestion(name, published)}; use a file made by search, or one of "
            f"{', '.join(published)}"
        )
    return Genotype.from_dict(load_architecture(Path(name), "darts"), name)


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


def drawn_pairs(pairs: Sequence[Pair], concat: Sequence[int] = CONCAT) -> list[tuple[str, str, str | None]]:
    """Labelled edges of a cell in the field's drawing: c_{k-2}, c_{k-1}, nodes 0 to 3, c_{k}. concat: the output."""
    names = [*INPUTS, *map(str, range(NODES))]
    edges: list[tuple[str, str, str | None]] = [(names[s], str(slot // 2), op) for slot, (op, s) in enumerate(pairs)]
    return edges + [(names[state], "c_{k}", None) for state in dict.fromkeys(concat)]
