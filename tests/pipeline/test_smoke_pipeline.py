"""What reruns what in the smoke pipeline: real dvc, the repository's dvc.yaml, instant trainers."""

from __future__ import annotations

import pytest

from common.papers import PAPERS

pytestmark = pytest.mark.slow
EVERYTHING = {"evnas/search", "evnas/train", "evnas/evaluate", "evnas/search_nb201", "nsas/search", "nsas/train"} | {
    "nsas/evaluate", "nsas/search_nb201", "nsas/search_ptb", "nsas/train_ptb",
}  # fmt: skip


def test_first_run_does_all_and_second_nothing(smoke):
    assert smoke.calls() == EVERYTHING
    assert "up to date" in smoke.dvc("repro", "dvc.yaml")
    assert smoke.calls() == set()
    assert "up to date" in smoke.dvc("status", "dvc.yaml")


def test_training_setting_reruns_no_search(smoke):
    smoke.calls()
    smoke.set("evnas", "train", 1)
    smoke.dvc("repro", "dvc.yaml")
    assert smoke.calls() == {"evnas/train", "evnas/evaluate"}


def test_search_setting_reruns_search_and_what_follows(smoke):
    smoke.calls()
    smoke.set("evnas", "search", 1)
    smoke.dvc("repro", "dvc.yaml")
    assert smoke.calls() == {"evnas/search", "evnas/train", "evnas/evaluate"}


def test_text_and_other_papers_rerun_nothing(smoke):
    smoke.calls()
    (smoke.folder / "papers" / "evnas" / "README.md").write_text("other text\n")
    smoke.set("cream", "search", 1)
    assert "up to date" in smoke.dvc("repro", "dvc.yaml")
    code = smoke.folder / "papers" / "nsas" / "more.py"
    code.write_text("x = 1\n")
    smoke.dvc("repro", "dvc.yaml")
    assert smoke.calls() == {name for name in EVERYTHING if name.startswith("nsas/")}


def test_metrics_have_a_row_for_each_paper(smoke):
    shown = smoke.dvc("metrics", "show", "--md")
    for paper in PAPERS:
        assert f"results/smoke/metrics/{paper}.json" in shown.replace("\\", "/")
    assert "train.top1_error_percent" in shown
