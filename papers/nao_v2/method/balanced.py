"""Balanced sampling, the paper's idea: an architecture is trained in proportion to the size of its derived network.

p(a) = n(a) / sum over candidates, n(a) = parameters (millions) of the derived network at the search's width and depth
(Method 2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from papers.nao_v2.networks.architectures import Architecture, Shape
from papers.nao_v2.networks.size import size_of


class Sampler:
    """The architecture of each training step, a ~ p; draws from ``rng``."""

    def __init__(
        self, candidates: Sequence[Architecture], probabilities: np.ndarray | None, rng: np.random.RandomState
    ) -> None:
        """probabilities: of each candidate; None is uniform."""
        self.candidates, self.p, self.rng = candidates, probabilities, rng

    def place(self) -> int:
        """Index of the next one."""
        count = len(self.candidates)
        return int(self.rng.choice(count, p=self.p) if self.p is not None else self.rng.choice(count))

    def next(self) -> Architecture:
        """The next architecture to train."""
        return self.candidates[self.place()]


def sizes(architectures: Sequence[Architecture], shape: Shape) -> np.ndarray:
    """n(a): parameters of each derived network (no auxiliary head), int64."""
    return np.array([size_of(a, shape).parameters for a in architectures], dtype=np.int64)


def probabilities(parameters: np.ndarray) -> np.ndarray:
    """n / 1e6 rounded to float32, divided by the float32 sum (the dtype is the original's; the draws depend on it)."""
    millions = (np.asarray(parameters, dtype=np.float64) / 1e6).astype(np.float32)
    return millions / np.sum(millions, dtype=np.float32)


def policy(sampling: str, parameters: np.ndarray) -> np.ndarray | None:
    """Probabilities of a sampling policy: ``params`` (balanced) or ``uniform`` (None)."""
    return probabilities(parameters) if sampling == "params" else None
