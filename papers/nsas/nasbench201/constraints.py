"""Constraint cells on NAS-Bench-201: there is no archive, new ones are made at every step (Method 15 and 16).

A cell is six operation numbers in edge order 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2: 0 none, 1 skip_connect,
2 nor_conv_1x1, 3 nor_conv_3x3, 4 avg_pool_3x3; -1 is an edge that is not there.

Both notebooks deviate from the method in ways that a reader of the paper would not expect; a switch of each maker does
what they ran. RandomNAS: diverse and compensation cells lose three edges, and with three or more constraints the cells
that a diverse cell should avoid arrive as another type, so it avoids the random one only. GDAS: index tensors are
changed in place, so the draw h, the random cell r and every diverse cell are one object that holds the last of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from common.spaces.nasbench201.network import EDGES, NODE_EDGES, OPERATIONS, SOURCES

Code = tuple[int, ...]
ABSENT = -1

Chance = Callable[[], int]  # the next operation number
# (draw, current cell, previous cell) -> constraint cells in the order of their forwards
Maker = Callable[[Chance, Code, Code], list[Code]]


def uniform(rng: np.random.RandomState) -> Chance:
    """Uniform operation numbers."""
    return lambda: int(rng.randint(len(OPERATIONS)))


def random_code(draw: Chance) -> Code:
    """A uniformly random cell."""
    return tuple(draw() for _ in EDGES)


def diverse(draw: Chance, *previous: Code) -> Code:
    """A cell whose operation differs from every cell of ``previous`` on every edge (drawn until it fits)."""
    if len(previous) >= len(OPERATIONS):
        raise ValueError("at most four cells can be avoided: there are five operations")
    code = []
    for edge in range(len(EDGES)):
        operation = draw()
        while any(operation == other[edge] for other in previous):
            operation = draw()
        code.append(operation)
    return tuple(code)


def compensation(draw: Chance, previous: Code, current: Code) -> Code:
    """Keeps the current cell's operation where it differs from ``previous``; a different one where they agree."""
    code = []
    for before, now in zip(previous, current):
        operation = now
        while operation == before:
            operation = draw()
        code.append(operation)
    return tuple(code)


def entries_as_released(code: Sequence[int]) -> list[list[tuple[int, int]]]:
    """The released structure of diverse and compensation cells: an entry an edge (six), not one a node (three)."""
    return [[(int(code[e]), SOURCES[e]) for e in edges if e <= edge] for edges in NODE_EDGES for edge in edges]


def effective_as_released(code: Sequence[int]) -> Code:
    """The cell that the forward pass makes of the six entries: it reads the first three as nodes 1, 2, 3.

    So only the first three of the six drawn operations act: [1<-0], [2<-0 alone], [2<-0, 2<-1 used as 3<-0, 3<-1].
    """
    return (int(code[0]), int(code[1]), ABSENT, int(code[1]), int(code[2]), ABSENT)


def as_is(code: Sequence[int]) -> Code:
    """The right structure: the cell that was drawn."""
    return tuple(int(c) for c in code)


def read_edges(code: Sequence[int]) -> set[int]:
    """The edges whose operations autograd sees: those of nodes that are read, by ``none`` edges too.

    A real ``none`` multiplies by zero, so what only it reads has a gradient of zeros, not none; an absent edge reads
    nothing.
    """
    read, seen = set(), {3}
    for node in (3, 2, 1):
        if node in seen:
            present = {edge for edge in NODE_EDGES[node - 1] if code[edge] != ABSENT}
            read |= present
            seen |= {SOURCES[edge] for edge in present}
    return read


# constraint -> its maker, where both methods have the same
SIMPLE: dict[str, Maker] = {
    "r": lambda draw, current, previous: [random_code(draw), random_code(draw)],
    "low": lambda draw, current, previous: [previous],
    "none": lambda draw, current, previous: [],
}


def makers_of_random(number: int, structure_bug: bool, argument_bug: bool) -> dict[str, Maker]:
    """Constraint -> its maker, RandomNAS; ``number`` = M of NSAS.

    structure_bug: :func:`effective_as_released`; argument_bug: every diverse cell avoids r only.
    """
    shape = effective_as_released if structure_bug else as_is

    def nsas(draw: Chance, current: Code, previous: Code) -> list[Code]:
        cells = [random_code(draw)]
        while len(cells) < number:
            cells.append(diverse(draw, *(cells[:1] if argument_bug else cells)))
        return [cells[0], *(shape(cell) for cell in cells[1:])]

    def compensated(draw: Chance, current: Code, previous: Code) -> list[Code]:
        chance = random_code(draw)
        return [chance, shape(compensation(draw, chance, current))]

    def before(draw: Chance, current: Code, previous: Code) -> list[Code]:
        return [shape(compensation(draw, previous, current)), previous]

    return {"nsas": nsas, "g": compensated, "compensation": before, **SIMPLE}


def makers_of_gdas(number: int, shared_cells: bool) -> dict[str, Maker]:
    """Constraint -> its maker, GDAS; ``number`` = M of NSAS.

    shared_cells: as released, h, r and the diverse cells are one object, so each avoids the one before it only, and G
    compares r with itself (it differs from r everywhere). ``current`` is the draw h as released (not the trained cell),
    else the trained cell.
    """

    def nsas(draw: Chance, current: Code, previous: Code) -> list[Code]:
        cells = [random_code(draw)]
        while len(cells) < number:
            cells.append(diverse(draw, *(cells[-1:] if shared_cells else cells)))
        return cells

    def compensated(draw: Chance, current: Code, previous: Code) -> list[Code]:
        chance = random_code(draw)
        return [chance, compensation(draw, chance, chance if shared_cells else current)]

    def before(draw: Chance, current: Code, previous: Code) -> list[Code]:
        return [previous, compensation(draw, previous, current)]

    return {"nsas": nsas, "g": compensated, "compensation": before, **SIMPLE}
