"""The DARTS space as data: its operations by name, the edges of a cell, genotypes and where they are read. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.spaces.architecture import load_architecture
from common.spaces.pasted import given, inside, is_pasted, plain
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
            cells = {k: tuple((str(op), int(state)) for op, state in content[k]) for k in ("normal", "reduce")}
            outputs = {k: tuple(int(i) for i in content.get(f"{k}_concat", CONCAT)) for k in cells}
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
        return cls(cells["normal"], outputs["normal"], cells["reduce"], outputs["reduce"])


def load_genotype(name: str, published: Mapping[str, Genotype]) -> Genotype:
    """A published cell by name, an architecture file of space "darts", or pasted text. Raises UserError."""
    if name in published:
        return published[name]
    name = inside(name)
    if is_pasted(name):
        from common.spaces.darts.read import genotype

        found = given(name, published)
        return genotype(plain(found.text, found.where) if found.text else found.value, found.where)
    if not name.endswith(".json"):
        raise UserError(
            f"unknown architecture {name!r}{suggestion(name, published)}; use a file made by search, or one of "
            f"{', '.join(published)}"
        )
    return Genotype.from_dict(load_architecture(Path(name), "darts"), name)


def drawn_pairs(pairs: Sequence[Pair], concat: Sequence[int] = CONCAT) -> list[tuple[str, str, str | None]]:
    """Labelled edges of a cell in the field's drawing: c_{k-2}, c_{k-1}, nodes 0 to 3, c_{k}. concat: the output."""
    names = [*INPUTS, *map(str, range(NODES))]
    edges: list[tuple[str, str, str | None]] = [(names[s], str(slot // 2), op) for slot, (op, s) in enumerate(pairs)]
    return edges + [(names[state], "c_{k}", None) for state in dict.fromkeys(concat)]
