"""How far two lists of scores agree: Kendall's tau-b, Spearman's rho, Pearson's r, with an interval of tau."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import scipy

DRAWS, LEVEL = 1000, 0.95  # of the bootstrap over pairs


def agreement(name: str, scores: Sequence[float], accuracies: Sequence[float]) -> dict[str, float | None]:
    """``<name>_kendall_tau`` with the ends of its bootstrap interval, ``<name>_spearman``, ``<name>_pearson``.

    None where a list is constant, or (the interval) in every draw of the bootstrap.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(accuracies, dtype=np.float64)
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.stats.ConstantInputWarning)
        drawn = [
            scipy.stats.kendalltau(x[i], y[i]).statistic
            for i in (rng.integers(0, len(x), len(x)) for _ in range(DRAWS))
        ]
        known = [tau for tau in drawn if not math.isnan(tau)]
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if known else (math.nan, math.nan)
        measured = {
            "kendall_tau": scipy.stats.kendalltau(x, y).statistic,
            "kendall_tau_low": low,
            "kendall_tau_high": high,
            "spearman": scipy.stats.spearmanr(x, y).statistic if len(x) > 1 else math.nan,
            "pearson": scipy.stats.pearsonr(x, y).statistic if len(x) > 1 else math.nan,
        }
    return {f"{name}_{measure}": None if math.isnan(v) else float(v) for measure, v in measured.items()}
