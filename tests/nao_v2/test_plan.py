"""``--plan``: what a run would do, without doing it."""

from __future__ import annotations

import torch

from common.cli.verbs import main
from papers.nao_v2.__main__ import VERBS
from papers.nao_v2.networks.architectures import Shape, load
from papers.nao_v2.networks.derived import Network


def test_plan_states_the_controllers_share(capsys):
    main("nao_v2", VERBS, ["search", "--profile", "paper", "--plan"])
    text = capsys.readouterr().out
    assert "140800 steps" in text and "5800 scores" in text and "351000 controller steps" in text
    assert "controller 3.5 %" in text


def test_plan_of_an_evaluation(capsys, tmp_path):
    path = tmp_path / "bare.pt"
    torch.save(Network(load("NAONet_V2"), Shape(channels=4, layers=1)).state_dict(), path)
    flags = ["--arch", "NAONet_V2", "--dataset", "digits", "--checkpoint", str(path), "--out", str(tmp_path / "run")]
    main("nao_v2", VERBS, ["evaluate", *flags, "--plan"])
    text = capsys.readouterr().out
    assert "1,000 images" in text and "multiply-adds per image" in text and "on one CPU thread" in text
    assert not (tmp_path / "run").exists()
