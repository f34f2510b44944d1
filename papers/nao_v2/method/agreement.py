"""Agreement of two score lists: the authors' pairwise accuracy, Spearman's rho, Pearson's r."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pairwise_accuracy(a: Sequence[float], b: Sequence[float]) -> float:
    """Share of pairs i < j (Method 9) with (a_i >= a_j and b_i >= b_j) or (a_i < a_j and b_i < b_j).

    Ties count by position, so it is not symmetric. 0 for fewer than two scores.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    i, j = np.triu_indices(len(x), 1)
    return float(np.mean((x[i] >= x[j]) == (y[i] >= y[j]))) if len(i) else 0.0


def pearson(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Linear correlation; 0 when a list is constant."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    x, y = x - x.mean(), y - y.mean()
    below = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / below) if below else 0.0


def ranks(a: Sequence[float]) -> np.ndarray:
    """Ranks, ties averaged."""
    x = np.asarray(a, dtype=np.float64)
    return np.array([(x < v).sum() + ((x == v).sum() + 1) / 2 for v in x])


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's r of the ranks."""
    return pearson(ranks(a), ranks(b))


def hamming(a: Sequence[Sequence[int]], b: Sequence[Sequence[int]]) -> float:
    """Mean number of differing tokens per sequence."""
    return float(np.mean((np.asarray(a) != np.asarray(b)).sum(1)))
