"""What reruns what in the smoke pipeline: real dvc, the repository's dvc.yaml, instant trainers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


def test_two_lanes_at_a_time_give_what_one_gives(smoke, repository):
    """As ``make reproduce`` runs them; both write dvc.lock, and the last command has nothing left to do."""
    smoke.calls()
    lock = smoke.folder / "dvc.lock"
    smoke.set("evnas", "search_nb201", 1)
    smoke.set("nsas", "search_nb201", 1)
    shutil.copy(repository / "Makefile", smoke.folder)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = ["make", "-j2", "lane-1", "lane-2", "LANE_1=search_nb201_evnas@0", "LANE_2=search_nb201@0"]
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(smoke.folder)}
    done = subprocess.run(words, cwd=smoke.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert smoke.calls() == {"evnas/search_nb201", "nsas/search_nb201"}
    smoke.dvc("repro", "dvc.yaml")
    assert smoke.calls() == set()
    lanes = yaml.safe_load(lock.read_text())
    smoke.dvc("repro", "--force", "--no-run-cache", "search_nb201_evnas@0", "search_nb201@0")
    assert yaml.safe_load(lock.read_text()) == lanes and smoke.calls()
