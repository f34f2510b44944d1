"""Small settings and options that the tests of this folder share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from common.cli.verbs import RunOptions, main
from papers.evnas.__main__ import VERBS
from papers.evnas.settings import SearchDARTS, SearchNB201

SEARCH = {
    "dataset": "digits", "generations": 2, "train_images": 36, "fitness_images": 36, "batch_size": 18,
    "fitness_batch_size": 18, "population": 3, "tournament": 2, "pad": 2, "flip": False, "cutout": 0,
}  # fmt: skip
DARTS_SEARCH = SearchDARTS(**SEARCH, channels=2, layers=3)
NB201_SEARCH = SearchNB201(**SEARCH, channels=2, cells_per_stage=1)
TRAIN = {
    "dataset": "digits", "train_images": 96, "channels": 4, "layers": 3, "auxiliary": False, "epochs": 2,
    "batch_size": 32, "flip": False, "cutout": 0, "pad": 2,
}  # fmt: skip


def options(out: Path, section: str = "search_nb201", **more) -> RunOptions:
    """Of a run in ``out``, with a data root that holds nothing; no setting counts as given by a flag."""
    more.setdefault("given", frozenset())
    return RunOptions(out=out, device="cpu", data=out / "nowhere", paper="evnas", section=section, **more)


def train_options(out: Path, **more) -> RunOptions:
    """Of a training or a test in ``out``."""
    return RunOptions(paper="evnas", section="train", out=out, device="cpu", **more)


def change(settings, **values):
    """The settings with other values."""
    return dataclasses.replace(settings, **values)


def mistake(capsys, *arguments: str) -> str:
    """The one line that a command ends with."""
    with pytest.raises(SystemExit) as left:
        main("evnas", VERBS, list(arguments))
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if not line.startswith("note: ")]
    assert left.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]
