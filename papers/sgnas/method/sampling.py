"""Paths for supernet training (Method 4), and the code under which a supernet so trained knows an architecture.

Everything random comes in as ``permute(what, number, n)``, a permutation of range(n): stored ones can be replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from papers.sgnas.networks.architectures import KERNEL_SIZES, MIN_EXPANSION, SKIP, SUB_BLOCKS, Ops

ACTIVE = ("random", "prefix", "sorted")
Permute = Callable[[str, int, int], list[int]]


@dataclass
class LayerOrder:
    """State of one layer: an order of expansions 2..6, per sub-block an order of kernels, each with a pointer."""

    expansions: list[int] = field(default_factory=lambda: list(range(MIN_EXPANSION, SUB_BLOCKS + 1)))
    expansion_index: int = 0
    kernels: list[list[int]] = field(
        default_factory=lambda: [list(range(len(KERNEL_SIZES))) for _ in range(SUB_BLOCKS)]
    )
    kernel_index: list[int] = field(default_factory=lambda: [0] * SUB_BLOCKS)

    def _shuffle(self, permute: Permute) -> None:
        order = permute("expansion", 0, len(self.expansions))
        self.expansions = [MIN_EXPANSION + i for i in order]

    def next(self, reset: bool, permute: Permute, active: str = "random") -> list[int]:
        """The layer's operations for the next path.

        reset: start anew with the first expansion and fresh kernel orders; else take the next of each. active: which e
        sub-blocks are on: ``random`` ones (released code) or the first e (``prefix``).
        """
        if reset:
            self._shuffle(permute)
            expansion, self.expansion_index = self.expansions[0], 1
            self.kernels = [permute("kernel", i, len(KERNEL_SIZES)) for i in range(SUB_BLOCKS)]
            self.kernel_index = [0] * SUB_BLOCKS
        else:
            expansion = self.expansions[self.expansion_index]
            self.expansion_index += 1
            if self.expansion_index == len(self.expansions):
                self._shuffle(permute)
                self.expansion_index = 0
        order = permute("active", 0, SUB_BLOCKS) if active == "random" else list(range(SUB_BLOCKS))
        ops = [SKIP] * SUB_BLOCKS
        for i in sorted(order[:expansion]):
            self.kernel_index[i] += 1
            if self.kernel_index[i] == len(KERNEL_SIZES):
                self.kernels[i], self.kernel_index[i] = permute("kernel", i, len(KERNEL_SIZES)), 0
            ops[i] = self.kernels[i][self.kernel_index[i]]
        return ops


def _sorted_ops(rng: np.random.RandomState) -> list[int]:
    """Uniform operations, sorted ascending: skips come last and equal networks have one code (sub-block 0: no skip)."""
    return sorted([int(rng.randint(SKIP)), *rng.randint(SKIP + 1, size=SUB_BLOCKS - 1).tolist()])


def sample_paths(rng: np.random.RandomState, layers: int, count: int, active: str = "random") -> list[Ops]:
    """The ``count`` paths of one batch: reset, then advance. Up to five paths differ in every layer's expansion."""
    if active == "sorted":
        return [[_sorted_ops(rng) for _ in range(layers)] for _ in range(count)]
    orders = [LayerOrder() for _ in range(layers)]

    def permute(what: str, number: int, n: int) -> list[int]:
        return rng.permutation(n).tolist()

    return [[order.next(number == 0, permute, active) for order in orders] for number in range(count)]


def trained_code(ops: Ops, active: str) -> Ops:
    """The code of the same network that training with ``active`` draws: ``prefix`` has only codes whose active
    sub-blocks come first (in their order), ``sorted`` only ascending ones; with ``random`` every code is its own.
    """
    keys = {"random": lambda op: 0, "prefix": lambda op: op == SKIP, "sorted": lambda op: op}
    return [sorted(row, key=keys[active]) for row in ops]  # stable


def trained_parameters(p: torch.Tensor, active: str) -> torch.Tensor:
    """``trained_code`` for architecture parameters p [L, 6, 4]: the rows of a layer in the order that their arg-max
    codes would take. Gradients follow the rows; one-hot parameters give exactly the code.
    """
    if active == "random":
        return p
    codes = p.detach().argmax(-1)
    order = (codes if active == "sorted" else codes == SKIP).to(torch.uint8).argsort(dim=-1, stable=True)
    return p.gather(-2, order.unsqueeze(-1).expand_as(p))
