"""Individuals and what they stand for (Method 1 and 2 of the README): a population A [P, rows, operations].

Entries are in [0, 1). DARTS cells: 28 rows (normal 0-13, reduction 14-27), 8 operations. NAS-Bench-201: 6 rows, 5
operations. Decoding D(A) marks the discrete architecture of A; the supernet mixes its operations by the row softmax of
D(A), so that every operation stays active and decoding only tilts the mixture. All of it happens on the CPU, once a
generation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.data.nasbench201 import to_string
from common.run.device import exact
from common.spaces.darts.genotype import CELL_EDGES, CONCAT, NODES, PRIMITIVES, Genotype
from common.spaces.nasbench201 import network as nasbench201

ROWS = len(CELL_EDGES)  # of one cell
NODE_ROWS = tuple(tuple(e for e, (node, _) in enumerate(CELL_EDGES) if node == i) for i in range(NODES))


@dataclass(frozen=True)
class Space:
    """What the search needs to know of a search space."""

    name: str  # of the architecture file
    blocks: tuple[tuple[int, int], ...]  # shapes (rows, operations) an individual is drawn in, in order
    decode: Callable[[Tensor, float], Tensor]
    mixture: Callable[[Tensor], Any]  # softmax weights [rows, operations] -> the supernet's argument
    architecture: Callable[[Tensor], Any]  # A [rows, operations] -> content of the architecture file
    text: Callable[[Tensor], str]  # the same in one line

    @property
    def rows(self) -> int:
        """Rows of an individual."""
        return sum(rows for rows, _ in self.blocks)

    @property
    def operations(self) -> int:
        """Operations of a row."""
        return self.blocks[0][1]


def softmax_rows(alphas: Tensor) -> Tensor:
    """p = softmax over the operations of every row, in float64: [..., operations] (Method 2)."""
    return torch.softmax(alphas.to(exact(alphas.device)), dim=-1)


# -- DARTS cells (S1 of the paper) -------------------------------------------------------------------------------------


def chosen(alphas: Tensor) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """The best operation but ``none`` of each row [28], and the two rows each node keeps, better one first.

    A row's score is p[o] with p = softmax(A[row]) (``none`` in the denominator) and o its best other operation; of
    equal scores the lower input comes first.
    """
    p = torch.softmax(alphas, dim=-1).numpy()
    best = p[:, 1:].argmax(-1) + 1
    score = p[np.arange(len(p)), best]
    kept = []
    for first in (0, ROWS):
        for rows in NODE_ROWS:
            order = np.argsort(-score[[first + r for r in rows]], kind="stable")
            kept.append(tuple(first + rows[i] for i in order[:2]))
    return best, kept


def decode_darts(alphas: Tensor, beta: float = 1.0) -> Tensor:
    """D(A) for A [28, 8]: beta at the chosen operation of the two chosen rows of each node, 0 elsewhere (Method 2)."""
    best, kept = chosen(alphas)
    decoded = torch.zeros_like(alphas)
    for row in (row for pair in kept for row in pair):
        decoded[row, int(best[row])] = beta
    return decoded


def genotype(alphas: Tensor) -> Genotype:
    """The cells of an individual: per node its two (operation, input) pairs in descending score (Method 2)."""
    best, kept = chosen(alphas)
    pairs = [(PRIMITIVES[best[row]], CELL_EDGES[row % ROWS][1]) for pair in kept for row in pair]
    return Genotype(tuple(pairs[: 2 * NODES]), CONCAT, tuple(pairs[2 * NODES :]), CONCAT)


def _text_darts(alphas: Tensor) -> str:
    """``op~input|op~input+…`` per cell, nodes in order, the two cells separated by a slash."""
    cells = genotype(alphas)
    return " / ".join(
        "+".join("|".join(f"{op}~{state}" for op, state in pairs[i : i + 2]) for i in range(0, 2 * NODES, 2))
        for pairs in (cells.normal, cells.reduce)
    )


def _mixture_darts(weights: Tensor) -> tuple[list, list]:
    table = weights.tolist()  # Python numbers: the supernet needs neither small tensors nor synchronisation
    return table[:ROWS], table[ROWS:]


DARTS = Space(
    "darts",
    ((ROWS, len(PRIMITIVES)),) * 2,
    decode_darts,
    _mixture_darts,
    lambda alphas: genotype(alphas).as_dict(),
    _text_darts,
)


# -- NAS-Bench-201 (S2 of the paper) -----------------------------------------------------------------------------------


def decode_nb201(alphas: Tensor, beta: float = 1.0) -> Tensor:
    """D(A) for A [6, 5]: beta at the largest entry of each row (``none`` allowed), 0 elsewhere (Method 2)."""
    best = torch.from_numpy(alphas.numpy().argmax(-1))  # the first of equals
    return torch.zeros_like(alphas).scatter_(-1, best[:, None], beta)


def cell_string(alphas: Tensor) -> str:
    """The benchmark's string of an individual's cell."""
    return to_string(alphas.numpy().argmax(-1).tolist())


NB201 = Space(
    "nasbench201",
    ((len(nasbench201.EDGES), len(nasbench201.OPERATIONS)),),
    decode_nb201,
    lambda weights: weights,
    cell_string,
    cell_string,
)


SPACES = {"darts": DARTS, "nb201": NB201}  # by --space


def mixtures(space: Space, population: Tensor, decoded: bool, beta: float) -> list[Any]:
    """What the supernet takes for each individual: the row softmax of D(A), or of A itself (Method 2).

    population: [P, rows, operations]; beta: value of the chosen operations in D.
    """
    if decoded:
        population = torch.stack([space.decode(alphas, beta) for alphas in population])
    return [space.mixture(weights) for weights in softmax_rows(population)]
