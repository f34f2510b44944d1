"""The constraint set: distance between cells, novelty, and the archive of diverse architectures (Method 2 and 3).

The paper replaces the constraints "do not forget any earlier architecture" by M of them, chosen for diversity by a
greedy novelty search. Normal and reduction cells have an archive each; the i-th constraint architecture is
(normal[i], reduction[i]), a pairing without meaning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from papers.nsas.method.sampling import Architecture, Cell


def distance(x: Sequence[Any], y: Sequence[Any]) -> float:
    """d(x, y) = (slots - matches) / slots; a pair of x matches when the same node of y holds it in either slot.

    Not symmetric when a cell repeats a pair. Works for any even number of slots (eight in the DARTS space).
    """
    matches = 0
    for slot in range(0, len(x), 2):
        first, second = y[slot], y[slot + 1]
        matches += (x[slot] == first or x[slot] == second) + (x[slot + 1] == first or x[slot + 1] == second)
    return (len(x) - matches) / len(x)


def distance_by_slot(x: Sequence[Any], y: Sequence[Any]) -> float:
    """Share of slots that differ; for recurrent cells, where each node has one pair, and codes of NAS-Bench-201."""
    return sum(a != b for a, b in zip(x, y)) / len(x)


C = TypeVar("C")  # a cell, or a code of NAS-Bench-201
Distance = Callable[[Any, Any], float]


def novelty(cell: C, others: Sequence[C], neighbours: int = 10, measure: Distance = distance) -> float:
    """score(x; S) = mean of the min(k, |S|) smallest d(x, s). NaN for an empty S: it loses every comparison."""
    if not others:
        return math.nan
    nearest = sorted(measure(cell, other) for other in others)[:neighbours]
    return sum(nearest) / len(nearest)


def nearest(cell: C, others: Sequence[C], measure: Distance = distance) -> int:
    """Index of the member with the smallest d(cell, member); ties go to the lowest index."""
    values = [measure(cell, other) for other in others]
    return values.index(min(values))


@dataclass
class Archive(Generic[C]):
    """A (``members``, at most M cells) and the pool of recently trained cells Q (``recent``, the last C)."""

    size: int
    recent_size: int = 50
    neighbours: int = 10
    candidates: int = 10
    measure: Distance = distance
    members: list[C] = field(default_factory=list)
    recent: list[C] = field(default_factory=list)

    def update(self, cell: C, draw: Callable[[], C]) -> int | None:
        """Book-keeping of one training step with the sampled ``cell``; returns the slot that changed, if any.

        While the set fills, 1 + ``candidates`` random cells are drawn and the most novel is appended (a released
        peculiarity: constraints start as fresh random cells, not earlier architectures). Once full, the member nearest
        to ``cell`` is replaced by whichever recent cell is more novel with respect to the rest of the set.
        """
        if self.size == 0:
            return None
        self.recent = [*self.recent, cell][-self.recent_size :]
        if len(self.members) < self.size:
            incumbent, best = draw(), 0.0
            for _ in range(self.candidates):
                candidate = draw()
                score = novelty(candidate, self.members, self.neighbours, self.measure)
                if score > best:
                    incumbent, best = candidate, score
            self.members.append(incumbent)
            return len(self.members) - 1
        slot = nearest(cell, self.members, self.measure)
        rest = self.members[:slot] + self.members[slot + 1 :]
        incumbent = self.members[slot]
        best = novelty(incumbent, rest, self.neighbours, self.measure)
        for candidate in self.recent:
            score = novelty(candidate, rest, self.neighbours, self.measure)
            if score > best:
                incumbent, best = candidate, score
        changed = incumbent != self.members[slot]
        self.members[slot] = incumbent
        return slot if changed else None

    def state_dict(self) -> dict[str, list[C]]:
        """The cells of both lists."""
        return {"members": list(self.members), "recent": list(self.recent)}

    def load_state_dict(self, state: dict[str, list[C]]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.members, self.recent = list(state["members"]), list(state["recent"])


class ConstraintSet:
    """One archive for the normal cells and one for the reduction cells, updated together (Method 3).

    size, recent_size, neighbours: M, C and k of each. first: a random architecture that both lists of recent cells
    begin with, though it is never trained.
    """

    def __init__(self, size: int, recent_size: int, neighbours: int, first: Architecture) -> None:
        self.archives = [Archive(size, recent_size, neighbours, recent=[cell]) for cell in first]

    def update(self, current: Architecture, draw: Callable[[], Cell]) -> list[Architecture]:
        """Take in the step's architecture; the constraints a_1 ... a_M = (normal_i, reduction_i)."""
        for archive, cell in zip(self.archives, current, strict=True):
            archive.update(cell, draw)
        normal, reduction = (archive.members for archive in self.archives)
        return list(zip(normal, reduction, strict=True))

    def __len__(self) -> int:
        """Constraints so far."""
        return len(self.archives[0].members)

    def state_dict(self) -> dict[str, dict[str, list[Cell]]]:
        """Both archives."""
        return {name: a.state_dict() for name, a in zip(("normal", "reduction"), self.archives, strict=True)}

    def load_state_dict(self, state: dict[str, dict[str, list[Cell]]]) -> None:
        """Inverse of :meth:`state_dict`."""
        for name, archive in zip(("normal", "reduction"), self.archives, strict=True):
            archive.load_state_dict(state[name])
