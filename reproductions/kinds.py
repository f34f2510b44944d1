"""What kind of number a claim is, and the two tables that say what came back.

A parameter count is no error rate, so verdicts are only ever counted within one kind. Numbers of other methods that the
papers quote for comparison are *context*: nobody replicates them here, so they have no verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.papers import PAPERS

if TYPE_CHECKING:
    from reproductions.claims import Claim
    from reproductions.verdicts import Verdict

SIZES, RULES = "architectures and sizes", "rules and schedules"
RELEASED, TRAINED = "released weights", "trained from scratch"
SEARCHED, TABLES = "searched", "tables looked up"
CONTEXT = "context"
KINDS = (SIZES, RULES, RELEASED, TRAINED, SEARCHED, TABLES)
MEANING = {
    SIZES: "parameters, multiply-adds, tensors and architectures, counted by building them",
    RULES: "steps, learning rates and other schedules, as the settings give them",
    RELEASED: "what the authors' published weights give when they are tested here",
    TRAINED: "a published architecture, trained here",
    SEARCHED: "an architecture found here",
    TABLES: "accuracies of NAS-Bench-201 cells, read from the benchmark's tables",
    CONTEXT: "numbers of other methods and of earlier revisions, quoted by the papers; not measured, no verdict",
}
OF_QUANTITY = {
    **dict.fromkeys(
        (
            "parameters", "parameters_without_classifier", "parameters_with_auxiliary", "supernet_parameters",
            "parameter_tensors", "state_entries", "macs", "macs_convolutions", "macs_ptflops", "macs_published",
            "fixed_mflops", "path_mflops", "table_mflops", "lookup_mflops", "blocks_and_resolution", "architectures",
            "codes", "networks", "tokens",
        ),
        SIZES,
    ),
    **dict.fromkeys(
        (
            "learning_rate", "lr", "epochs", "steps", "steps_per_epoch", "drop_path", "temperature", "tau", "weight",
            "probability_ratio", "targets",
        ),
        RULES,
    ),
}  # fmt: skip
MEASURES = ("percent", "perplexity")  # units of accuracies, errors and perplexities
SCALE = {
    RELEASED: "the whole test set", TRAINED: "the paper's data and budget", SEARCHED: "the paper's data and budget",
    TABLES: "the benchmark's table",
}  # fmt: skip


def kind_of(needs: Iterable[str], quantity: str) -> str:
    """The kind of a claim by what it needs and, where it needs nothing but code, by its quantity.

    Raises KeyError for a computed quantity that is in neither list.
    """
    words = [need.partition(":") for need in needs]
    first = {word for word, _, _ in words}
    if "quoted" in first:
        return CONTEXT
    if "search" in first:
        return SEARCHED
    if "training" in first:
        return TRAINED
    if "checkpoint" in first:
        return RELEASED
    if "unpublished" in first:  # an architecture that only its error is known of would have to be trained
        return OF_QUANTITY.get(quantity, TRAINED)
    data = {name for word, _, name in words if word == "data"}
    if any(name.startswith("nasbench201") for name in data):
        return TABLES
    return RELEASED if data else OF_QUANTITY[quantity]  # the other data set is SGNAS's published generator


@dataclass(frozen=True)
class KindRow:
    """Verdicts on the numbers of one kind in one paper."""

    paper: str
    kind: str
    published: int  # numbers that somebody published …
    counts: dict[str, int]  # … and how many have which verdict, all four in order
    others: int  # values that only the authors' code gave …
    others_met: int  # … and how many of them come out here

    def as_dict(self) -> dict[str, Any]:
        return {
            "paper": self.paper, "kind": self.kind, "published": self.published, **self.counts,
            "of_authors_code": self.others, "of_authors_code_met": self.others_met,
        }  # fmt: skip


def by_kind(verdicts: Iterable[Verdict]) -> list[KindRow]:
    """One row for each paper and kind that has claims, papers and kinds in their order; context has no row."""
    from reproductions.verdicts import REPRODUCED, VERDICTS

    found = list(verdicts)
    rows = []
    for paper in PAPERS:
        for kind in KINDS:
            mine = [v for v in found if v.claim.paper == paper and v.claim.kind == kind]
            published = [v for v in mine if v.claim.published]
            others = [v for v in mine if not v.claim.published]
            if mine:
                counts = Counter(v.verdict for v in published)
                met = sum(v.verdict == REPRODUCED for v in others)
                rows.append(KindRow(paper, kind, len(published), {w: counts[w] for w in VERDICTS}, len(others), met))
    return rows


@dataclass(frozen=True)
class Headline:
    """One accuracy, error or perplexity: what was published, what came out here, and what a smaller run gave."""

    verdict: Verdict
    label: str
    published: str
    here: str  # – where nothing at the paper's scale was run
    scale: str  # at what scale `here` was measured; – where it was not
    seeds: str  # seeds behind `here`
    reduced: str  # what smaller runs gave; never a verdict

    @property
    def paper(self) -> str:
        return self.verdict.claim.paper

    @property
    def kind(self) -> str:
        return self.verdict.claim.kind


def headline(verdicts: Iterable[Verdict], every: bool = False) -> list[Headline]:
    """The accuracies, errors and perplexities that matter (claims with `headline`), or every published one.

    In the order of papers and kinds, so that what was searched never stands among what was only looked up.
    """
    found = [v for v in verdicts if v.claim.kind in KINDS and v.claim.published and v.claim.unit in MEASURES]
    found = [v for v in found if every or v.claim.headline]
    found.sort(key=lambda v: (PAPERS.index(v.claim.paper), KINDS.index(v.claim.kind)))
    return [_headline(v) for v in found]


def _headline(v: Verdict) -> Headline:
    from reproductions.listing import measured, number, published

    c, run = v.claim, v.measured is not None
    seeds = str(v.n) if run and c.kind in (TRAINED, SEARCHED) else "–"
    reduced = "; ".join(
        f"{number(s.mean, c.unit, digits=4)}{' %' if c.unit == 'percent' else ''}"
        f"{f' ± {s.sd:.2g}' if s.n > 1 else ''} ({s.profile}, {s.n} seed{'s' * (s.n > 1)})"
        for s in v.smaller
    )
    here = measured(v, digits=5, seeds=False)
    return Headline(v, label(c), published(v), here, SCALE.get(c.kind, "–") if run else "–", seeds, reduced or "–")


def label(claim: Claim) -> str:
    """A claim's name for people: its headline, its place in a published table, or its id in words."""
    if claim.headline:
        return claim.headline
    if claim.row or claim.column:
        return ", ".join(filter(None, (claim.row, claim.column)))
    return claim.id.partition(".")[2].replace(".", " ").replace("_", " ")
