"""Statistics of seeds, errors and ranks, all from scipy: what a verdict may rest on.

Intervals are 95 % unless said otherwise. Values are plain floats in the unit of the claim.
``scipy.stats`` takes two seconds to import, so scipy loads it where it is first used; intervals of means need only its
functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from scipy.special import stdtrit

LEVEL = 0.95


@dataclass(frozen=True)
class Spread:
    """n values: mean, sample standard deviation (nan for one), t interval of the mean."""

    n: int
    mean: float
    sd: float
    t: tuple[float, float]
    values: tuple[float, ...] = ()

    @property
    def bca(self) -> tuple[float, float]:
        """BCa bootstrap interval of the mean; nan for fewer than three values (its acceleration is the jackknife's)."""
        if self.sd == 0:
            return self.mean, self.mean
        if self.n < 3:
            return math.nan, math.nan
        x = np.asarray(self.values, dtype=float)
        found = scipy.stats.bootstrap(
            (x,), np.mean, confidence_level=LEVEL, n_resamples=2000, method="BCa", rng=np.random.default_rng(0)
        ).confidence_interval
        return float(found.low), float(found.high)


def spread(values: list[float]) -> Spread:
    """Mean and its uncertainty over seeds; one value has no interval (nan)."""
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        raise ValueError("no values")
    mean = float(x.mean())
    if x.size == 1:
        return Spread(1, mean, math.nan, (math.nan, math.nan))
    sd = float(x.std(ddof=1))
    if sd == 0:
        return Spread(x.size, mean, 0.0, (mean, mean))
    low, high = mean_interval(mean, sd, x.size, LEVEL)
    return Spread(x.size, mean, sd, (low, high), tuple(map(float, x)))


def mean_interval(mean: float, sd: float, n: int, level: float) -> tuple[float, float]:
    """Student's t interval of the mean of n > 1 values, as ``scipy.stats.t.interval`` gives it."""
    low, high = (stdtrit(n - 1, q) * (sd / math.sqrt(n)) + mean for q in ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


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
    low, high = mean_interval(mean, sd, x.size, 1 - 2 * alpha)
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
