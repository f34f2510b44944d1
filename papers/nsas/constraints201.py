"""Constraint architectures on NAS-Bench-201 (sections 3.5, 6.3): no archive there, new ones every step.

A cell is six operation indices in edge order 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2
(0 none, 1 skip_connect, 2 nor_conv_1x1, 3 nor_conv_3x3, 4 avg_pool_3x3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Code = tuple[int, ...]
OPERATIONS = 5
EDGES = 6
INPUTS = (0, 0, 1, 0, 1, 2)
NODE_STARTS = (0, 1, 3)

Draw = Callable[[], int]


def random_code(draw: Draw) -> Code:
    """A uniformly random cell."""
    return tuple(draw() for _ in range(EDGES))


def diverse(draw: Draw, *previous: Code) -> Code:
    """A cell whose operation differs from every cell of ``previous`` on every edge (drawn until it fits)."""
    if len(previous) >= OPERATIONS:
        raise ValueError("at most four cells can be avoided: there are five operations")
    code = []
    for edge in range(EDGES):
        operation = draw()
        while any(operation == other[edge] for other in previous):
            operation = draw()
        code.append(operation)
    return tuple(code)


def compensation(draw: Draw, previous: Code, current: Code) -> Code:
    """Keeps the current cell's operation where it differs from ``previous``; a different one where they agree."""
    code = []
    for before, now in zip(previous, current):
        operation = now
        while operation == before:
            operation = draw()
        code.append(operation)
    return tuple(code)


def entries_as_released(code: Sequence[int]) -> list[list[tuple[int, int]]]:
    """The released structure of diverse and compensation cells:
    one entry an edge (six) instead of one a node (three).
    """
    entries = []
    for start, node in zip(NODE_STARTS, (1, 2, 3)):
        for edge in range(start, start + node):
            entries.append([(int(code[e]), INPUTS[e]) for e in range(start, edge + 1)])
    return entries


def effective_as_released(code: Sequence[int]) -> Code:
    """The cell that the forward pass makes of the six entries: it reads the first three as nodes 1, 2, 3.

    So only the first three of the six drawn operations act: [1<-0], [2<-0 alone], [2<-0, 2<-1 used as 3<-0, 3<-1];
    an absent edge is the same as ``none`` (a zero tensor).
    """
    return (int(code[0]), int(code[1]), 0, int(code[1]), int(code[2]), 0)


def as_is(code: Sequence[int]) -> Code:
    """The right structure: the cell that was drawn."""
    return tuple(int(c) for c in code)
