"""The two lanes of ``make reproduce``: every stage in one of them, and together what one lane gives."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common.papers import PAPERS


def lanes(repository: Path) -> list[list[str]]:
    text = (repository / "Makefile").read_text()
    return [re.search(rf"^LANE_{number} := (.*)$", text, re.MULTILINE)[1].split() for number in (1, 2)]


def test_every_stage_lies_in_a_lane(repository):
    """Stages by what comes last: an evaluation brings its search and training."""
    stages = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    first, second = lanes(repository)
    named = {target.partition("@")[0] for target in first + second}
    brought = {"search": "evaluate", "train": "evaluate", "search_ptb": "train_ptb"}
    assert {brought.get(name, name) for name in stages} - {"check"} == named
    assert {f"evaluate@{paper}-0" for paper in PAPERS} <= {*first, *second} and not {*first} & {*second}


@pytest.mark.slow
def test_two_lanes_give_what_one_gives(smoke, tmp_path, scratch_checkout, repository):
    """At the same time, in a checkout of their own; the last command has only the check to do."""
    made = scratch_checkout(tmp_path)
    for name in ("dvc.yaml", "reproductions"):
        source = smoke.folder / name
        subprocess.run(["cp", "-r", str(source), str(tmp_path)], check=True)
    (tmp_path / "Makefile").write_text((repository / "Makefile").read_text())
    words = ["LANE_1=evaluate@evnas-0 search_nb201_evnas@0", "LANE_2=evaluate@nsas-0 search_nb201@0 train_ptb@0"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(tmp_path)}
    command = ["make", "-j2", "lane-1", "lane-2", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(made.calls()) == 10
    made.dvc("repro", "dvc.yaml")
    assert made.calls() == set()
    ours, theirs = (yaml.safe_load((folder / "dvc.lock").read_text())["stages"] for folder in (tmp_path, smoke.folder))
    assert ours.keys() == theirs.keys()
    for name, stage in theirs.items():
        assert ours[name].get("outs") == stage.get("outs"), name
