"""Drawing paths: one ``choice(C, n)`` per stage from a legacy NumPy stream, the same on every rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from papers.cream.network.architectures import Path

PUBLISHED_PROBABILITIES = (0.05, 0.2, 0.05, 0.5, 0.05, 0.15)  # by choice index


def sample_path(
    rng: np.random.RandomState, sampled: Sequence[int], choices: int = 6, weights: Sequence[float] | None = None
) -> Path:
    """A path with ``sampled`` entries in stages 1 to 5, uniform unless ``weights`` are given.

    The released code hands its probability vector to NumPy in the place of ``replace``, so it samples uniformly
    whatever the vector says: uniform is what made the published numbers.
    """
    inner = [rng.choice(choices, count, p=weights).tolist() for count in sampled]
    return [[0], *inner, [0]]


def board_probabilities(paths: Sequence[Path], choices: int = 6) -> list[float]:
    """Choice frequencies of the board's paths, with both constant stages (+2 for choice 0 per path)."""
    counts = np.zeros(choices)
    for path in paths:
        for stage in path:
            for choice in stage:
                counts[choice] += 1
    return (counts / counts.sum()).tolist()
