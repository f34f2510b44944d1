"""Every claim has one kind, verdicts are counted within it, and context has none."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from common.papers import PAPERS
from reproductions import kinds
from reproductions.__main__ import main as house
from reproductions.claims import Claim, load_all
from reproductions.kinds import CONTEXT, KINDS, by_kind, headline
from reproductions.listing import absent_data
from reproductions.verdicts import NOT_REPRODUCED, NOT_RUN, REPRODUCED, VERDICTS, Smaller, Verdict, decide

CLAIMS = load_all()
PLAIN = next(c for c in CLAIMS if c.id == "evnas.cifar10.a.trained")


@pytest.mark.parametrize(
    ("needs", "quantity", "kind"),
    [
        ([], "macs", "architectures and sizes"),
        ([], "lr", "rules and schedules"),
        (["checkpoint:evnas-cifar10-a", "data:cifar10"], "top1_error_percent", "released weights"),
        (["data:sgnas"], "macs_published", "released weights"),  # what the published generator puts out
        (["training", "gpu", "data:cifar10"], "top1_error_percent", "trained from scratch"),
        (["search", "training", "gpu", "data:cifar10"], "top1_error_percent", "searched"),
        (["search", "gpu", "data:cifar10", "data:nasbench201"], "test_accuracy_percent", "searched"),
        (["data:nasbench201"], "accuracy_percent", "tables looked up"),
        (["unpublished:architecture-23"], "top1_error_percent", "trained from scratch"),
        (["unpublished:counter-version"], "macs_published", "architectures and sizes"),
        (["quoted"], "top1_error_percent", "context"),
    ],
)
def test_kind_of_a_claim(needs, quantity, kind):
    assert kinds.kind_of(needs, quantity) == kind


def test_every_claim_of_the_suite_is_in_exactly_one_row():
    decided = [Verdict(c, "" if c.kind == CONTEXT else NOT_RUN) for c in CLAIMS]
    rows = by_kind(decided)
    assert {c.kind for c in CLAIMS} == {*KINDS, CONTEXT}
    assert sum(row.published + row.others for row in rows) == sum(c.kind != CONTEXT for c in CLAIMS)
    assert [row.paper for row in rows] == sorted((row.paper for row in rows), key=PAPERS.index)
    assert all(list(row.counts) == list(VERDICTS) and sum(row.counts.values()) == row.published for row in rows)


def test_a_contradiction_is_counted_beside_a_confirmation_and_neither_hides_the_other():
    rows = by_kind(
        [
            Verdict(PLAIN, REPRODUCED),
            Verdict(PLAIN, NOT_REPRODUCED),
            Verdict(replace(PLAIN, published=False), REPRODUCED),
        ]
    )
    (row,) = rows
    assert (row.counts[REPRODUCED], row.counts[NOT_REPRODUCED], row.published) == (1, 1, 2)
    assert (row.others, row.others_met) == (1, 1)


def test_context_has_no_verdict_and_no_row():
    quoted = next(c for c in CLAIMS if c.kind == CONTEXT)
    verdict = decide(quoted, [])
    assert verdict.verdict == "" and verdict.as_dict()["verdict"] is None
    assert by_kind([verdict]) == [] and headline([verdict], every=True) == []


def test_a_reduced_run_stands_in_its_own_column_and_gives_no_verdict():
    claim = replace(PLAIN, headline="EvNAS-A")
    smaller = (Smaller("proxy", 2, 43.2, 0.5, "results/proxy/x"),)
    (row,) = headline([Verdict(claim, NOT_RUN, smaller=smaller)])
    assert (row.here, row.scale, row.seeds, row.verdict.verdict) == ("–", "–", "–", NOT_RUN)
    assert row.reduced == "43.2 % ± 0.5 (proxy, 2 seeds)"
    (row,) = headline([Verdict(claim, NOT_REPRODUCED, 2.9, 3, 0.1, smaller=smaller)])
    assert (row.here, row.seeds, row.verdict.verdict) == ("2.9 ± 0.1 %", "3", NOT_REPRODUCED)


def test_the_numbers_that_matter_are_published_accuracies_errors_and_perplexities():
    chosen = [c for c in CLAIMS if c.headline]
    assert {c.paper for c in chosen} == set(PAPERS)
    assert all(c.published and c.kind in KINDS and c.unit in kinds.MEASURES for c in chosen)
    most = Counter((c.paper, c.headline, c.kind) for c in chosen).most_common(1)[0]
    assert most[1] == 1, f"two rows of one name: {most[0]}"


def small(**other) -> Claim:
    return replace(PLAIN, **other)


def test_label_falls_back_to_the_place_in_the_published_table_and_to_the_id():
    assert kinds.label(small(headline="", row="A", column="error")) == "A, error"
    assert kinds.label(small(headline="", row="", column="")) == "cifar10 a trained"


def test_the_command_takes_a_kind_with_blanks_dashes_or_underscores(capsys):
    for word in ("rules and schedules", "rules-and-schedules", "Rules_and_Schedules"):
        assert house(["claims", "--paper", "nao_v2", "--kind", word, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert {entry["kind"] for entry in found} == {"rules and schedules"} and len(found) > 5
    assert house(["claims", "--kind", "computed"]) == 2
    assert "architectures and sizes" in capsys.readouterr().err


def test_a_clone_without_data_says_why_its_counts_differ():
    looked_up = next(c for c in CLAIMS if c.id == "nsas.nb201.GDAS_NSAS.table")
    said = absent_data([Verdict(looked_up, NOT_RUN), Verdict(PLAIN, NOT_RUN)])
    assert said.startswith("1 of the claims not run need only data that are not here (nasbench201-v1.0)")
    assert "data fetch nasbench201-v1.0" in said and "results/data_claims.json" in said
    assert absent_data([Verdict(looked_up, REPRODUCED, 93.49, 1), Verdict(PLAIN, NOT_RUN)]) == ""
