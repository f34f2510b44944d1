"""What the comparison says: against chance, whose distribution the tables hold, and against random search, by seed.

Chance is one uniformly drawn cell a seed. A method of n seeds beats it where n uniform cells so seldom have so good a
mean rank; ranks, since a few cells learn nothing and rule every mean of accuracies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from common.data.nasbench201 import CELLS, DATASETS, Table
from common.errors import UserError
from reproductions.compare.statistics import Spread, kendall, paired, spread
from reproductions.compare_nb201.runs import BASELINE, METHODS, ON, Outcome, Point

DRAWS = 20_000  # sets of uniform cells
SEEDS = 3  # that every method should have
LEVEL = 0.05

Interval = tuple[float, float]


@dataclass(frozen=True)
class Chance:
    """One uniformly drawn cell: exact means, middle 95 % of its accuracy, and the mean of the best of ``scored``; of
    the mean of SEEDS such cells the middle 95 % of DRAWS draws.
    """

    test: dict[str, float]
    middle: Interval  # on CIFAR-10
    middle_of_mean: Interval
    regret: float
    rank: float
    scored: int
    best_test: float  # of so many uniform cells, were their truth known
    tau_12: float  # of all cells' accuracies after 12 epochs alone, NaN where the tables lack them


def chance(table: Table, scored: int) -> Chance:
    """Exact, from the 15,625 accuracies."""
    column = np.sort(table.column(ON))
    share = (np.arange(1, CELLS + 1) / CELLS) ** scored  # P(best of `scored` is among the lowest i)
    best = float((column * np.diff(share, prepend=0.0)).sum())
    return Chance(
        {name: float(table.column(name).mean()) for name in DATASETS}, middle(column), middle(drawn(column, SEEDS)),
        float(column[-1] - column.mean()), float(table.ranks(ON).mean()), scored, best, tau_12(table),
    )  # fmt: skip


def middle(values: np.ndarray) -> Interval:
    """Between which 95 % of the values lie."""
    low, high = np.quantile(values, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def drawn(values: np.ndarray, count: int) -> np.ndarray:
    """DRAWS means of ``count`` uniformly drawn values; a fixed stream."""
    return values[np.random.default_rng(0).integers(0, CELLS, (DRAWS, count))].mean(1)


def tau_12(table: Table) -> float:
    """Kendall's tau of 12 epochs of training alone with 200, over all cells: what a fair but short training knows."""
    try:
        return float(scipy.stats.kendalltau(table.column(ON, "test", 12), table.column(ON)).statistic)
    except UserError:
        return math.nan


def chance_of(ranks: Sequence[int], table: Table) -> float:
    """Probability that as many uniform cells have so low a mean rank (DRAWS sets, a fixed stream)."""
    means = drawn(table.ranks(ON), len(ranks))
    return float((1 + (means <= np.mean(ranks)).sum()) / (1 + DRAWS))


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Adjusted by Holm's rule for the number of methods compared."""
    adjusted, last = {}, 0.0
    for place, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        last = max(last, min(1.0, p * (len(p_values) - place)))
        adjusted[key] = last
    return adjusted


@dataclass(frozen=True)
class Row:
    """A method over its seeds; n = 0: not run."""

    key: str
    name: str
    rule: str
    n: int = 0
    test: Spread | None = None
    regret: float = math.nan
    ranks: tuple[int, ...] = ()
    elsewhere: dict[str, float] | None = None  # transfer: data set -> mean test accuracy of the same cells
    tau: float = math.nan
    tau_interval: Interval = (math.nan, math.nan)  # of the mean over seeds (t); of one seed over its cells (bootstrap)
    p_chance: float = math.nan  # adjusted
    paired_n: int = 0
    difference: float = math.nan  # to random search, points
    difference_interval: Interval = (math.nan, math.nan)
    cpu_seconds: float = math.nan  # a search, mean

    @property
    def beats_chance(self) -> bool:
        return self.p_chance < LEVEL


def tau_of(cells: Sequence[int], scores: Sequence[float], table: Table) -> tuple[float, Interval]:
    """Kendall's tau of scores and truth, and its bootstrap interval over the cells; NaN where it has no value."""
    nothing = math.nan, (math.nan, math.nan)
    if len(cells) < 3 or len(set(scores)) < 2:
        return nothing
    tau, interval, _ = kendall(list(scores), list(table.column(ON)[list(cells)]))
    return tau, interval


def judge(found: list[Outcome], table: Table) -> list[Row]:
    """A row a method, those that were not run among them."""
    of = {m.key: {o.seed: o for o in found if o.method == m.key} for m in METHODS}
    p = holm({key: chance_of([o.rank for o in mine.values()], table) for key, mine in of.items() if mine})
    rows = []
    for method in METHODS:
        mine = of[method.key]
        if not mine:
            rows.append(Row(method.key, method.name, method.rule))
            continue
        outcomes = list(mine.values())
        taus = [tau_of(*o.scored, table) for o in outcomes]
        values = [tau for tau, _ in taus if not math.isnan(tau)]
        over_seeds = spread(values) if values else None
        seconds = [o.cpu_seconds for o in outcomes if o.cpu_seconds is not None]
        rows.append(Row(
            method.key, method.name, method.rule, len(outcomes), spread([o.test[ON] for o in outcomes]),
            float(np.mean([o.regret for o in outcomes])), tuple(o.rank for o in outcomes),
            {name: float(np.mean([o.test[name] for o in outcomes])) for name in DATASETS if name != ON},
            over_seeds.mean if over_seeds else math.nan,
            (over_seeds.t if over_seeds.n > 1 else taus[0][1]) if over_seeds else (math.nan, math.nan),
            p[method.key], **against(mine, of[BASELINE] if method.key != BASELINE else {}),
            cpu_seconds=float(np.mean(seconds)) if seconds else math.nan,
        ))  # fmt: skip
    return rows


def against(mine: dict[int, Outcome], baseline: dict[int, Outcome]) -> dict[str, Any]:
    """The mean difference in CIFAR-10 test accuracy over the common seeds, with its t interval."""
    if not set(mine) & set(baseline):
        return {}
    found = paired(*({seed: o.test[ON] for seed, o in side.items()} for side in (mine, baseline)))
    return {"paired_n": found.n, "difference": found.difference, "difference_interval": found.interval}


@dataclass(frozen=True)
class Rank:
    """Tau of a supernet at an epoch, with its interval over the cells, and how well its cells do."""

    scale: str
    epoch: int
    renewed: bool
    tau: float
    low: float
    high: float
    mean_percent: float
    cells: int


def curve(found: list[Point], table: Table) -> list[Rank]:
    """The points of all curves."""
    ranks = []
    for point in found:
        tau, (low, high) = tau_of(point.cells, point.scores, table)
        mean = float(np.mean(point.scores))
        ranks.append(Rank(point.scale, point.epoch, point.renewed, tau, low, high, mean, len(point.cells)))
    return ranks
