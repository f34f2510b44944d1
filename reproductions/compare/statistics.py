"""Statistics of seeds, errors and ranks, all from scipy: what a verdict may rest on.

Intervals are 95 % unless said otherwise. Values are plain floats in the unit of the claim.
``scipy.stats`` takes a second to import, so scipy loads it where it is first used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

LEVEL = 0.95


@dataclass(frozen=True)
class Spread:
    """n values: mean, sample standard deviation (nan for one), t interval and BCa bootstrap interval of the mean."""

    n: int
    mean: float
    sd: float
    t: tuple[float, float]
    bca: tuple[float, float]


def spread(values: list[float]) -> Spread:
    """Mean and its uncertainty over seeds; one value has no interval (nan)."""
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        raise ValueError("no values")
    mean, nan = float(x.mean()), (math.nan, math.nan)
    if x.size == 1:
        return Spread(1, mean, math.nan, nan, nan)
    sd = float(x.std(ddof=1))
    if sd == 0:
        return Spread(x.size, mean, 0.0, (mean, mean), (mean, mean))
    low, high = scipy.stats.t.interval(LEVEL, x.size - 1, loc=mean, scale=sd / math.sqrt(x.size))
    bca = nan
    if x.size >= 3:  # BCa's acceleration comes from the jackknife and needs more than two values
        found = scipy.stats.bootstrap(
            (x,), np.mean, confidence_level=LEVEL, n_resamples=2000, method="BCa", rng=np.random.default_rng(0)
        ).confidence_interval
        bca = (float(found.low), float(found.high))
    return Spread(x.size, mean, sd, (float(low), float(high)), bca)


def binomial_interval(error_percent: float, images: int) -> tuple[float, float]:
    """Wilson interval, in percent, of one test error measured on ``images`` images."""
    wrong = round(error_percent / 100 * images)
    found = scipy.stats.binomtest(wrong, images).proportion_ci(confidence_level=LEVEL, method="wilson")
    return 100 * float(found.low), 100 * float(found.high)


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests (TOST) of the mean against [target - margin, target + margin], and the test of difference."""

    p: float  # larger of the two one-sided p values: below 0.05 the mean lies inside the margin
    interval: tuple[float, float]  # 90 % interval of the mean, TOST's own
    verdict: str  # equivalent | different | undecided


def equivalence(values: list[float], target: float, margin: float, alpha: float = 0.05) -> Equivalence:
    """TOST: equivalent when the 1 - 2 alpha interval lies inside the margin, different when it lies wholly outside.

    With one value (or a margin of zero and any spread) nothing can be concluded: undecided.
    """
    x = np.asarray(values, dtype=float)
    if x.size < 2:
        return Equivalence(math.nan, (math.nan, math.nan), "undecided")
    mean, sd = float(x.mean()), float(x.std(ddof=1))
    if sd == 0:
        inside = abs(mean - target) <= margin
        return Equivalence(0.0 if inside else 1.0, (mean, mean), "equivalent" if inside else "different")
    above = scipy.stats.ttest_1samp(x, target - margin, alternative="greater").pvalue
    below = scipy.stats.ttest_1samp(x, target + margin, alternative="less").pvalue
    p = float(max(above, below))
    low, high = scipy.stats.t.interval(1 - 2 * alpha, x.size - 1, loc=mean, scale=sd / math.sqrt(x.size))
    outside = low > target + margin or high < target - margin
    verdict = "equivalent" if p < alpha else "different" if outside else "undecided"
    return Equivalence(p, (float(low), float(high)), verdict)


@dataclass(frozen=True)
class Paired:
    """Mean difference a - b over common seeds, its t interval, paired t test and Wilcoxon signed-rank p values."""

    n: int
    difference: float
    interval: tuple[float, float]
    p_t: float
    p_wilcoxon: float


def paired(a: dict[Any, float], b: dict[Any, float]) -> Paired:
    """Compare two methods on the seeds both have. Raises ValueError with fewer than one common seed."""
    seeds = sorted(set(a) & set(b))
    if not seeds:
        raise ValueError("no common seed")
    x, y = np.array([a[s] for s in seeds]), np.array([b[s] for s in seeds])
    d = spread(list(x - y))
    if d.n < 2 or d.sd == 0:
        same = d.n >= 2 and d.mean == 0
        return Paired(d.n, d.mean, d.t, 1.0 if same else math.nan, 1.0 if same else math.nan)
    return Paired(d.n, d.mean, d.t, float(scipy.stats.ttest_rel(x, y).pvalue), float(scipy.stats.wilcoxon(x, y).pvalue))


def kendall(x: list[float], y: list[float]) -> tuple[float, tuple[float, float], float]:
    """Kendall's tau-b of two score lists, its bootstrap interval over pairs, and the p value of no association."""
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if a.size != b.size or a.size < 3:
        raise ValueError("tau needs two lists of the same length, at least 3")
    tau, p = scipy.stats.kendalltau(a, b)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(1000):
        index = rng.integers(0, a.size, a.size)
        value = scipy.stats.kendalltau(a[index], b[index]).statistic
        if not math.isnan(value):
            draws.append(value)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if draws else (math.nan, math.nan)
    return float(tau), (float(low), float(high)), float(p)
