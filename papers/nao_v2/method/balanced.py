"""Balanced sampling, the paper's idea: an architecture is trained in proportion to the size of its derived network.

p(a) = n(a) / sum over candidates, n(a) = parameters (millions) of the derived network at the search's width and depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from papers.nao_v2.network.architectures import Architecture
from papers.nao_v2.network.size import size_of


def sizes(architectures: Sequence[Architecture], channels: int, layers: int, classes: int, space: str) -> np.ndarray:
    """Parameters of each derived network (CIFAR form, no auxiliary head), int64."""
    found = [
        size_of(a, channels=channels, layers=layers, classes=classes, space=space).parameters for a in architectures
    ]
    return np.array(found, dtype=np.int64)


def probabilities(parameters: np.ndarray) -> np.ndarray:
    """n / 1e6 rounded to float32, divided by the float32 sum (the dtype is the original's; the draws depend on it)."""
    millions = (np.asarray(parameters, dtype=np.float64) / 1e6).astype(np.float32)
    return millions / np.sum(millions, dtype=np.float32)


def sampler(policy: str, parameters: np.ndarray) -> np.ndarray | None:
    """Probabilities of a policy: ``params`` (balanced) or ``uniform`` (None)."""
    return probabilities(parameters) if policy == "params" else None


def draw(rng: np.random.RandomState, count: int, p: np.ndarray | None) -> int:
    """Index of the architecture of one training step."""
    return int(rng.choice(count, p=p) if p is not None else rng.choice(count))
