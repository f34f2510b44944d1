"""Random cells of the DARTS space, their 0/1 tables, and the cells read back from tables (Method 1, 6).

A *cell* is a tuple of eight pairs ``(operation, input)``: node ``i`` (0..3) owns slots ``2 i`` and ``2 i + 1``;
inputs are states ``0 .. i + 1``. Operations are indices into ``PRIMITIVES`` of the DARTS network (0 is ``none``).
Tables have shape [14, 8]: one row an edge (node by node, inputs in order), one column an operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from common.spaces.darts.genotype import CELL_EDGES, CONCAT, NODES, PRIMITIVES, Genotype

Cell = tuple[tuple[int, int], ...]
Architecture = tuple[Cell, Cell]  # normal, reduction
Sampler = Callable[[np.random.RandomState], Cell]

ROWS, COLUMNS = len(CELL_EDGES), len(PRIMITIVES)  # of a table: 14 edges, 8 operations


def first_edge(node: int) -> int:
    """Row of the edge from state 0 into ``node``: 0, 2, 5, 9."""
    return sum(i + 2 for i in range(node))


def sample_free(rng: np.random.RandomState) -> Cell:
    """RandomNAS: two operations and two inputs a node, both with replacement, ``none`` included."""
    return _draw(rng, lambda node: rng.choice(node + 2, 2))


def sample_distinct(rng: np.random.RandomState) -> Cell:
    """GDAS code and the pre-release notebooks: the two inputs of a node differ."""
    return _draw(rng, lambda node: rng.choice(node + 2, 2, replace=False))


def sample_depth_released(rng: np.random.RandomState) -> Cell:
    """NSAS-C as released: node i takes states i and i + 1 (a chain), only operations are drawn."""
    return _draw(rng, lambda node: (node, node + 1))


def sample_depth_published(rng: np.random.RandomState) -> Cell:
    """NSAS-C with the inputs of the published cell: node i takes states 0 and i + 1."""
    return _draw(rng, lambda node: (0, node + 1))


def _draw(rng: np.random.RandomState, inputs_of: Callable[[int], Iterable[int]]) -> Cell:
    """Node by node, in the order of the authors' draws: the operations, then the inputs."""
    cell: list[tuple[int, int]] = []
    for node in range(NODES):
        operations = rng.choice(COLUMNS, 2)
        cell += [(int(o), int(i)) for o, i in zip(operations, inputs_of(node), strict=True)]
    return tuple(cell)


def genotype_of(architecture: Architecture) -> Genotype:
    """The cells with their operations' names."""
    normal, reduce = (tuple((PRIMITIVES[operation], state) for operation, state in cell) for cell in architecture)
    return Genotype(normal, CONCAT, reduce, CONCAT)


def cells_of(genotype: Genotype) -> Architecture:
    """Inverse of :func:`genotype_of`."""
    normal, reduce = (
        tuple((PRIMITIVES.index(operation), state) for operation, state in pairs)
        for pairs in (genotype.normal, genotype.reduce)
    )
    return normal, reduce


SAMPLERS: dict[tuple[str, str], Sampler] = {
    ("nsas", "released"): sample_free,
    ("nsas", "distinct"): sample_distinct,
    ("nsas-c", "released"): sample_depth_released,
    ("nsas-c", "published"): sample_depth_published,
}


def encode(cell: Cell) -> np.ndarray:
    """0/1 table [14, 8] of a cell; a pair listed twice is switched on once."""
    table = np.zeros((ROWS, COLUMNS), dtype=np.float32)
    for slot, (operation, state) in enumerate(cell):
        table[first_edge(slot // 2) + state, operation] = 1.0
    return table


def active(cell: Cell) -> tuple[tuple[tuple[int, int], ...], ...]:
    """What a 0/1 table switches on, node by node: sorted distinct (input, operation) pairs."""
    return tuple(
        tuple(sorted({(state, operation) for operation, state in cell[2 * node : 2 * node + 2]}))
        for node in range(NODES)
    )


def row_softmax(table: np.ndarray) -> np.ndarray:
    """Softmax over each row in float32; entries far below the largest one become ties, decided by the lowest index."""
    table = np.asarray(table, dtype=np.float32)
    exponentials = np.exp(table - table.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def decode_top2(table: np.ndarray) -> Cell:
    """Per node the two inputs whose largest non-none entry is biggest (stable order), each with its best non-none op.

    Entries are compared after :func:`row_softmax`, so that rows of different scale compete as in the released code.
    """
    table = row_softmax(table)
    cell: list[tuple[int, int]] = []
    for node in range(NODES):
        rows = table[first_edge(node) : first_edge(node) + node + 2]
        strength = rows[:, 1:].max(axis=1)
        order = np.argsort(-strength, kind="stable")[:2]
        cell += [(int(rows[state, 1:].argmax()) + 1, int(state)) for state in order]
    return tuple(cell)


def decode_depth(table: np.ndarray) -> Cell:
    """NSAS-C decoder of the GDAS code: inputs 0 and i + 1, each with its best non-none operation."""
    table = row_softmax(table)
    cell: list[tuple[int, int]] = []
    for node in range(NODES):
        rows = table[first_edge(node) : first_edge(node) + node + 2]
        cell += [(int(rows[state, 1:].argmax()) + 1, state) for state in (0, node + 1)]
    return tuple(cell)
