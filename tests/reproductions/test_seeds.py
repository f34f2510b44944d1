"""Runs for several seeds: the commands are the pipeline's own."""

from __future__ import annotations

import pytest

from common.errors import UserError
from common.papers import PAPERS
from reproductions.compare import seeds


@pytest.mark.parametrize("profile", sorted(seeds.PIPELINES))
def test_commands_are_those_of_the_pipeline(profile):
    pipeline = seeds.PIPELINES[profile]
    found = seeds.commands(pipeline, 7)
    assert len(found) == len(set(found))
    assert all("--seed 7" in line and f"--profile {profile}" in line and "${" not in line for line in found)
    outs = [line.split("--out ")[1].split()[0] for line in found]
    for number, line in enumerate(found):  # what a run reads was written before, by a run of the same seed
        if "--arch " in line and line.split("--arch ")[1].startswith("results/"):
            source = line.split("--arch ")[1].split()[0].rsplit("/", 1)[0]
            assert source in outs[:number], line


def test_one_paper_and_every_stage():
    assert {line.split()[2] for line in seeds.commands(seeds.PIPELINES["smoke"], 0)} == {f"papers.{p}" for p in PAPERS}
    mine = seeds.commands(seeds.PIPELINES["smoke"], 0, "evnas")
    assert mine and all(line.startswith("python -m papers.evnas ") for line in mine)


def test_an_unknown_paper_is_named():
    with pytest.raises(UserError, match="darts"):
        seeds.main(["--paper", "darts", "--list"])


def test_combinations():
    rows = seeds.combinations({"loss": ["a", "b"], "m": [1, 2]})
    assert rows == [{"loss": "a", "m": 1}, {"loss": "a", "m": 2}, {"loss": "b", "m": 1}, {"loss": "b", "m": 2}]
