"""The two lanes of ``make reproduce``: every stage lies in one of them."""

from __future__ import annotations

import re
from pathlib import Path

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
