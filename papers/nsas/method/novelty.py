"""The constraint set: distance between cells, novelty, and the archive of diverse architectures (section 3.2, 3.3).

The paper replaces the constraints "do not forget any earlier architecture" by M of them, chosen for diversity by a
greedy novelty search.  Normal and reduction cells are handled by two independent :class:`Archive` objects; the i-th
constraint architecture is (normal[i], reduction[i]).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Cell = tuple[tuple[int, int], ...]


def distance(x: Cell, y: Cell) -> float:
    """d(x, y) = (slots - matches) / slots; a pair of x matches when the same node of y holds it in either slot.

    Not symmetric when a cell repeats a pair.  Works for any even number of slots (eight in the DARTS space).
    """
    matches = 0
    for slot in range(0, len(x), 2):
        first, second = y[slot], y[slot + 1]
        matches += (x[slot] == first or x[slot] == second) + (x[slot + 1] == first or x[slot + 1] == second)
    return (len(x) - matches) / len(x)


def distance_by_slot(x: Cell, y: Cell) -> float:
    """Share of slots that differ; for the recurrent cell, where each node has one pair."""
    return sum(a != b for a, b in zip(x, y)) / len(x)


Distance = Callable[[Cell, Cell], float]


def novelty(cell: Cell, others: Sequence[Cell], neighbours: int = 10, measure: Distance = distance) -> float:
    """score(x; S) = mean of the min(k, |S|) smallest d(x, s).  NaN for an empty S: it loses every comparison."""
    if not others:
        return math.nan
    nearest = sorted(measure(cell, other) for other in others)[:neighbours]
    return sum(nearest) / len(nearest)


def nearest(cell: Cell, others: Sequence[Cell], measure: Distance = distance) -> int:
    """Index of the member with the smallest d(cell, member); ties go to the lowest index."""
    values = [measure(cell, other) for other in others]
    return values.index(min(values))


@dataclass
class Archive:
    """A (``members``, at most M cells) and the pool of recently trained cells Q (``recent``, the last C)."""

    size: int
    recent_size: int = 50
    neighbours: int = 10
    candidates: int = 10
    measure: Distance = distance
    members: list[Cell] = field(default_factory=list)
    recent: list[Cell] = field(default_factory=list)

    def update(self, cell: Cell, draw: Callable[[], Cell]) -> int | None:
        """Book-keeping of one training step with the sampled ``cell``; returns the slot that changed, if any.

        While the set fills, 1 + ``candidates`` random cells are drawn and the most novel is appended (a released
        peculiarity: constraints start as fresh random cells, not earlier architectures).  Once full, the member nearest
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

    def state(self) -> dict:
        """Plain lists for a run state."""
        return {
            "members": [list(map(list, c)) for c in self.members],
            "recent": [list(map(list, c)) for c in self.recent],
        }

    def restore(self, state: dict) -> None:
        """Inverse of :meth:`state`."""
        self.members = [tuple((int(o), int(i)) for o, i in c) for c in state["members"]]
        self.recent = [tuple((int(o), int(i)) for o, i in c) for c in state["recent"]]


def similarity_weights(
    current: tuple[Cell, Cell], members: Sequence[tuple[Cell, Cell]], measure: Distance = distance
) -> list[float]:
    """w_i = mean over both cells of 1 - d(current, a_i) (the weighted GDAS loss of 2019, section 3.4)."""
    return [
        sum(1.0 - measure(mine, theirs) for mine, theirs in zip(current, member)) / len(current) for member in members
    ]


def weighted_recursion(weights: Sequence[float], losses: Sequence[float]) -> float:
    """acc <- w_i (acc + loss_i); 2 acc / (2 M): what was coded as a weighted mean is a chain of products."""
    total = 0.0
    for weight, loss in zip(weights, losses):
        total = weight * (total + loss)
    return 2 * total / (2 * len(losses)) if losses else 0.0
