"""Exactly one verdict for each claim: reproduced, not reproduced, inconclusive, or not run (and what is missing).

Numbers of other methods, quoted for comparison, are no claims: they are context and have no verdict.

A value that only code decides is computed at once. A checkpoint's evaluation repeats without spread, so one run
decides against the margin. A training run or a search varies with its seed, so the decision is an equivalence test
(TOST) of the seeds' mean against the margin: too few seeds cannot pass, they are inconclusive. Only runs of the
`paper` profile count; smaller ones are mentioned, never counted.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from common.errors import UserError
from reproductions.claims import Claim
from reproductions.compare.groups import groups
from reproductions.compare.statistics import equivalence, spread
from reproductions.computed import value_of
from reproductions.kinds import CONTEXT
from reproductions.results import Result, by_seed, matching

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
INCONCLUSIVE, NOT_RUN = "inconclusive", "not run"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_RUN)
NO_VERDICT = ""  # of context


@dataclass(frozen=True)
class Smaller:
    """What runs of one kind at a reduced scale gave; shown beside a claim, never counted."""

    profile: str
    n: int  # seeds
    mean: float
    sd: float  # nan for one seed
    source: str  # one of the result files


@dataclass(frozen=True)
class Verdict:
    """The decision on one claim and what it rests on."""

    claim: Claim
    verdict: str  # one of VERDICTS; empty for context
    measured: Any = None  # value or mean over seeds
    n: int = 0  # seeds behind it
    sd: float = math.nan
    interval: tuple[float, float] | None = None
    reason: str = ""  # what is missing, or why it is undecided
    sources: tuple[str, ...] = ()  # result files
    smaller: tuple[Smaller, ...] = ()  # runs at reduced scale

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `claims --json`."""
        c = self.claim
        return {
            "id": c.id,
            "paper": c.paper,
            "kind": c.kind,
            "decided_by": c.hardest,
            "quantity": c.quantity,
            "unit": c.unit,
            "value": c.value,
            "spread": c.spread,
            "margin": c.margin,
            "margin_reason": c.margin_reason,
            "source": c.source,
            "paper_or_code": c.paper_or_code,
            "published": c.published,
            "holds": c.holds,
            "needs": c.needs,
            "command": c.command,
            "verdict": self.verdict or None,
            "measured": self.measured,
            "n": self.n,
            "sd": None if math.isnan(self.sd) else self.sd,
            "interval": self.interval,
            "reason": self.reason,
            "sources": list(self.sources),
            "smaller": [asdict(s) | {"sd": None if math.isnan(s.sd) else s.sd} for s in self.smaller],
            "note": c.note,
        }


def as_expected(verdict: Verdict) -> bool:
    """Whether a computed claim came out as its entry says: reproduced, or not where the published value is false."""
    return verdict.verdict == (REPRODUCED if verdict.claim.holds else NOT_REPRODUCED)


def decide_all(claims: list[Claim], results: list[Result]) -> list[Verdict]:
    """A verdict for each claim, in order."""
    return [decide(claim, results) for claim in claims]


def decide(claim: Claim, results: list[Result]) -> Verdict:
    """The verdict on one claim; never raises for an absent file."""
    if claim.hardest == "computed" or (claim.hardest == "data" and claim.compute):
        return _computed(claim)
    if claim.kind == CONTEXT:
        return Verdict(claim, NO_VERDICT, reason="quoted for comparison; not measured by this suite")
    found = [r for r in matching(claim, results) if isinstance(r.metrics.get(claim.metric_key), (int, float))]
    full = [r for r in found if r.profile == "paper"]
    small = [r for r in found if r.profile != "paper"]
    small += [
        r
        for r in results
        if claim.reduced and r.path.match(claim.reduced) and r not in found and claim.metric_key in r.metrics
    ]
    smaller = tuple(_smaller(group, claim.metric_key) for group in groups(small).values())
    if not full:
        return Verdict(claim, NOT_RUN, reason=_missing(claim, found), smaller=smaller)
    kinds = sorted(groups(full).values(), key=len, reverse=True)
    full, others = kinds[0], sum(len(kind) for kind in kinds[1:])  # other data or files are no more of the same
    seeds = by_seed(full, claim.metric_key)
    values = list(seeds.values())
    s = spread(values)
    sources = tuple(str(r.path) for r in full)
    interval = None if math.isnan(s.t[0]) else s.t

    def verdict(word: str, reason: str = "") -> Verdict:
        if others:
            reason = f"{reason}; " * bool(reason) + f"{others} runs from other data, files or settings not counted"
        return Verdict(claim, word, s.mean, s.n, s.sd, interval, reason, sources, smaller)

    if any(r.unpinned for r in full):
        return verdict(INCONCLUSIVE, "made from unpinned data")
    target, margin = float(claim.value), float(claim.margin)
    if claim.hardest in ("checkpoint", "data"):
        each = [float(r.metrics[claim.metric_key]) for r in full]
        return verdict(REPRODUCED if all(_within(v, target, margin) for v in each) else NOT_REPRODUCED)
    if len(seeds) < 2:
        return verdict(INCONCLUSIVE, "one seed says nothing about the spread; run at least three")
    found_equal = equivalence(values, target, margin)
    if found_equal.verdict == "equivalent":
        return verdict(REPRODUCED)
    if found_equal.verdict == "different":
        return verdict(NOT_REPRODUCED)
    low, high = found_equal.interval
    return verdict(
        INCONCLUSIVE, f"{len(seeds)} seeds leave [{low:.4g}, {high:.4g}] against {target:g} ± {margin:g}; run more"
    )


def _smaller(group: list[Result], key: str) -> Smaller:
    s = spread(list(by_seed(group, key).values()))
    return Smaller(group[0].profile, s.n, s.mean, s.sd, str(group[0].path))


def _computed(claim: Claim) -> Verdict:
    try:
        measured = value_of(claim)
    except (UserError, ImportError, AttributeError, KeyError, TypeError, ValueError) as error:
        return Verdict(claim, NOT_RUN, reason=f"cannot be computed: {type(error).__name__}: {error}")
    return judged(claim, measured)


def judged(claim: Claim, measured: Any) -> Verdict:
    """The verdict on a value that code decides: the same value, or within the margin."""
    if claim.unit == "exact":
        same = measured == claim.value or str(measured) == str(claim.value)
    else:
        same = isinstance(measured, (int, float)) and _within(float(measured), float(claim.value), float(claim.margin))
    return Verdict(claim, REPRODUCED if same else NOT_REPRODUCED, measured, 1)


def _within(value: float, target: float, margin: float) -> bool:
    # one part in 10^9 for the decimal fractions of percentages
    return abs(value - target) <= margin + 1e-9 * max(1.0, abs(target))


def _missing(claim: Claim, smaller: list[Result]) -> str:
    parts = []
    for need in claim.needs:
        word, _, name = need.partition(":")
        if word == "unpublished":
            parts.append(f"never published: {name}")
        elif word == "checkpoint":
            parts.append(f"checkpoint {name}: python -m reproductions checkpoints fetch {name}")
        elif word == "data":
            verb = "prepare" if name == "imagenet" else "fetch"  # its archives cannot be had by a program
            parts.append(f"data {name}: python -m reproductions data {verb} {name}")
        elif word == "training":
            parts.append("a training run")
        elif word == "search":
            parts.append("a search")
        elif word == "gpu":
            parts.append("a GPU")
    text = "needs " + "; ".join(parts) if parts else "no result yet"
    if smaller:
        best = Counter(r.profile for r in smaller)
        text += (
            ". Run at reduced scale only ("
            + ", ".join(f"{n} {p}" for p, n in sorted(best.items()))
            + "): does not count"
        )
    return text
