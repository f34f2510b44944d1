"""A setting out of range is one line, before any folder is made, in the papers whose tests of mistakes lack it."""

from dataclasses import dataclass

import pytest

from common.cli import verbs as cli
from common.errors import UserError
from common.settings import refuse_idle
from papers.evnas.__main__ import VERBS as EVNAS
from papers.nao_v2.__main__ import VERBS as NAO_V2

WRONG = [
    ("evnas", "search --channels 0"), ("evnas", "search --lr nan"), ("evnas", "train --layers 0"),
    ("evnas", "train --drop-path 1.5"), ("evnas", "train --eval-every 0"), ("evnas", "train --lr nan"),
    ("evnas", "train --recipe imagenet --label-smoothing 1"), ("nao_v2", "search --generation-seeds 0"),
    ("nao_v2", "search --new-architectures 0"), ("nao_v2", "search --score-images -1"),
    ("nao_v2", "search --lr nan"), ("nao_v2", "train --channels 0"), ("nao_v2", "train --dropout-keep 0"),
    ("nao_v2", "random-search --epochs 0"), ("nao_v2", "rank-study --alone-epochs 0"),
]  # fmt: skip


@pytest.mark.parametrize("paper, command", WRONG)
def test_one_line_and_no_folder(paper, command, tmp_path, capsys):
    verbs = {"evnas": EVNAS, "nao_v2": NAO_V2}[paper]
    with pytest.raises(SystemExit) as stop:
        cli.main(paper, verbs, [*command.split(), "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert command.split()[-2] in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@dataclass(frozen=True)
class Crop:
    crop: str = "resized"
    pad: int = 4


def test_a_setting_that_does_nothing_is_refused():
    idle = {"pad": "--crop padded"}
    refuse_idle(Crop(), idle)
    refuse_idle(Crop(pad=2), idle, frozenset({"crop"}))  # of a profile, for the other crop
    for settings, given in ((Crop(pad=2), None), (Crop(pad=2), frozenset({"pad"})), (Crop(), frozenset({"pad"}))):
        with pytest.raises(UserError, match=r"--pad \d does nothing here: it acts with --crop padded only"):
            refuse_idle(settings, idle, given)
