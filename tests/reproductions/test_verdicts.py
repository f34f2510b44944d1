"""Verdicts: what counts, what never does; statistics against scipy and known values."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy

from common.settings import plain, result_bearing
from reproductions.claims import Claim
from reproductions.compare.statistics import binomial_interval, equivalence, kendall, paired, spread
from reproductions.results import Result, by_seed, matching, resolve
from reproductions.verdicts import decide

BASE = {
    "id": "evnas.x.y", "quantity": "top1_error_percent", "unit": "percent", "value": 2.5, "source": "s",
    "paper_or_code": "paper", "needs": ["training"], "command": "", "margin": 0.1, "margin_reason": "r",
    "result": "paper/evnas/train-*/result.json",
}  # fmt: skip


def results(values, profile="paper", **more):
    return [
        Result(Path(f"results/paper/evnas/train-{i}/result.json"), "evnas", "train", profile, i,
               metrics={"top1_error_percent": v}, raw=more)
        for i, v in enumerate(values)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([], "not run"),
        ([2.5], "inconclusive"),
        ([2.49, 2.5, 2.51], "reproduced"),
        ([2.4, 2.6, 2.5], "inconclusive"),
        ([3.0, 3.01, 3.02], "not reproduced"),
    ],
)
def test_seeds_decide_by_equivalence(values, verdict):
    assert decide(Claim(**BASE), results(values)).verdict == verdict


def test_smaller_profiles_never_count():
    found = decide(Claim(**BASE), results([2.5, 2.5, 2.5], profile="proxy"))
    assert found.verdict == "not run"
    assert "reduced scale" in found.reason


def test_what_is_missing_is_named_with_a_command_that_gets_it():
    claim = Claim(**{**BASE, "needs": ["training", "data:cifar10", "data:imagenet", "checkpoint:cream-14"]})
    reason = decide(claim, []).reason
    for command in ("data fetch cifar10", "data prepare imagenet", "checkpoints fetch cream-14"):
        assert f"python -m reproductions {command}" in reason


def test_other_data_or_files_of_one_seed_are_not_averaged():
    """One seed twice is one value only where everything else is equal."""
    several = [*results([2.49, 2.5, 2.51]), *results([9.0], files={"arch": "another"})]
    found = decide(Claim(**BASE), several)
    assert (found.verdict, found.n) == ("reproduced", 3) and "1 runs from other data" in found.reason


def test_unpinned_data_is_inconclusive():
    found = decide(Claim(**BASE), results([2.5, 2.5, 2.5], unpinned_data=True))
    assert (found.verdict, found.reason) == ("inconclusive", "made from unpinned data")


def test_checkpoint_needs_one_run():
    claim = Claim(**{**BASE, "needs": ["checkpoint:evnas-a"]})
    assert decide(claim, results([2.6])).verdict == "reproduced"
    assert decide(claim, results([2.7])).verdict == "not reproduced"
    assert "checkpoints fetch evnas-a" in decide(claim, []).reason


def test_computed_claim():
    claim = Claim(**{**BASE, "needs": [], "unit": "count", "value": 3, "margin": 0, "compute": "call:math:isqrt:9"})
    assert decide(claim, []).verdict == "reproduced"
    broken = Claim(**{**BASE, "needs": [], "compute": "call:math:no_such:9"})
    assert decide(broken, []).verdict == "not run"


def test_quoted_is_never_measured():
    found = decide(Claim(**{**BASE, "needs": ["quoted"]}), results([2.5, 2.5]))
    assert (found.verdict, found.measured, found.claim.kind) == ("", None, "context")


def test_spread_and_intervals():
    s = spread([1.0, 2.0, 3.0, 4.0])
    assert (s.n, s.mean) == (4, 2.5)
    assert s.sd == pytest.approx(1.29099, abs=1e-5)
    assert s.t == pytest.approx((0.44574, 4.55426), abs=1e-4)
    assert s.t == scipy.stats.t.interval(0.95, 3, loc=2.5, scale=s.sd / 2)
    assert s.bca[0] < 2.5 < s.bca[1]
    assert spread([2.0, 2.0, 2.0]).bca == (2.0, 2.0) and all(map(math.isnan, spread([1.0, 2.0]).bca))
    assert math.isnan(spread([1.0]).sd)
    low, high = binomial_interval(2.5, 10_000)
    assert low == pytest.approx(2.211, abs=0.005)
    assert high == pytest.approx(2.825, abs=0.005)


def test_equivalence_needs_two_values():
    assert equivalence([2.5], 2.5, 1.0).verdict == "undecided"
    assert equivalence([2.5, 2.5], 2.5, 0.0).verdict == "equivalent"


def test_paired_and_kendall():
    p = paired({0: 1.0, 1: 2.0, 2: 4.0}, {0: 2.0, 1: 3.5, 2: 5.0, 9: 0.0})
    assert p.n == 3
    assert p.difference == pytest.approx(-3.5 / 3)
    assert p.p_t < 0.05
    x = np.arange(30.0)
    tau, (low, high), p_value = kendall(list(x), list(x + 5 * np.sin(x)))
    assert low < tau < high
    assert p_value < 1e-4


def test_runs_of_one_seed_are_one_value():
    """Repetition is no evidence: four copies of one seed decide no more than one."""
    different = results([2.44, 2.50])
    copies = [replace(different[0], path=Path(f"results/paper/evnas/train-again{i}/result.json")) for i in range(3)]
    once, again = (decide(Claim(**BASE), [*different, *more]) for more in ([], copies))
    assert again.verdict == once.verdict == "inconclusive"
    assert again.n == once.n == 2 and again.measured == once.measured == pytest.approx(2.47)
    assert by_seed([*different, replace(different[1], metrics={"top1_error_percent": 2.6})], "top1_error_percent") == {
        0: 2.44,
        1: pytest.approx(2.55),
    }


TRAINED = {**BASE, "result": "", "command": "python -m papers.evnas train --arch EvNASA --dataset cifar10"}


def answering(profile, precision="fp32", compiled=False, **settings):
    """Whether a training run with these settings answers the claim above."""
    full = plain(result_bearing(resolve(TRAINED["command"])[0]))
    result = Result(
        Path("results/x/evnas/train-0/result.json"), "evnas", "train", profile, 0, settings={**full, **settings},
        metrics={"top1_error_percent": 2.5}, raw={"precision": precision, "variant": "authors", "compile": compiled},
    )  # fmt: skip
    return bool(matching(Claim(**TRAINED), [result]))


def test_which_runs_answer_a_claim():
    assert answering("paper") and answering("proxy", channels=8)
    assert not answering("paper", channels=8)
    assert not answering("paper", precision="bf16") and not answering("paper", compiled=True)
    for profile in ("paper", "proxy"):
        assert not answering(profile, arch="EvNASB") and not answering(profile, dataset="cifar100")
