"""The user's mistakes: one line, before anything is computed."""

from __future__ import annotations

import pytest
import torch

from common.errors import UserError
from papers.evnas.evaluate import evaluate
from papers.evnas.networks.architectures import build, load_genotype
from papers.evnas.search import search
from papers.evnas.settings import Evaluate, Train
from papers.evnas.train import train
from tests.evnas.small import DARTS_SEARCH, NB201_SEARCH, TRAIN, change, mistake, options, train_options


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"tournament": 4}, "--tournament"),
        ({"population": 0}, "--population"),
        ({"elites": 9}, "--elites"),
        ({"mutation_rate": 1.5}, "--mutation-rate"),
        ({"generations": 0}, "--generations"),
        ({"beta": 0.0}, "--beta"),
        ({"dataset": "nothing"}, "nothing"),
        ({"train_images": 4}, "--train-images"),
        ({"lr": 1e30, "clip": 0.0}, "loss"),
    ],
)
def test_mistakes_have_one_line(wrong, named, tmp_path):
    with pytest.raises(UserError) as error:
        search(change(NB201_SEARCH, **wrong), options(tmp_path))
    assert named in str(error.value) and "\n" not in str(error.value)


def test_too_few_layers(tmp_path):
    with pytest.raises(UserError, match="--layers"):
        search(change(DARTS_SEARCH, layers=2), options(tmp_path, section="search"))


def test_mistakes_are_one_line(tmp_path):
    for arch, words in (("EvNASD", "unknown architecture"), (str(tmp_path / "none.json"), "none.json")):
        with pytest.raises(UserError, match=words) as caught:
            train(Train(**{**TRAIN, "arch": arch}), train_options(tmp_path / "run"))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="checkpoint"):
        evaluate(Evaluate(dataset="digits"), train_options(tmp_path / "run"))
    with pytest.raises(UserError, match="too few"):
        train(Train(**{**TRAIN, "train_images": 16}), train_options(tmp_path / "few"))
    with pytest.raises(UserError, match="recipe imagenet"):
        train(Train(dataset="imagenet"), train_options(tmp_path / "imagenet"))


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(build(load_genotype("EvNASA"), False, 10, 4, 3).state_dict(), path)
    with pytest.raises(UserError, match="cells"):
        evaluate(Evaluate("EvNASC", "digits", str(path)), train_options(tmp_path / "out"))
    torch.save(build(load_genotype("EvNASA"), False, 100, 4, 3).state_dict(), path)
    with pytest.raises(UserError, match="classifier"):  # the trap of the README's CIFAR-100 command
        evaluate(Evaluate("EvNASA", "digits", str(path)), train_options(tmp_path / "out"))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("search --space nb201 --momentum 0", "Nesterov's form needs a momentum"),
        ("train --auxiliary --train-images 97 --batch-size 96", "97 images leave a last batch of one"),
        ("train --auxiliary --layers 1", "has one reduction"),
        ("train --auxiliary --train-images 65 --batch-size 32 --parts 4", "last batch of one"),
        ("train --auxiliary --train-images 66 --batch-size 32 --parts 2", "a share of one"),
        ("train --recipe imagenet --epochs 5", "needs more than 5"),
        ("train --recipe imagenet --warmup-epochs 3", "--warmup-epochs 3 does nothing here"),
        ("train --no-auxiliary --auxiliary-weight 0.3", "--auxiliary-weight 0.3 does nothing here"),
        ("search --strategy random --tournament 2", "--tournament 2 does nothing here"),
        ("search --no-mutation --mutation-rate 0.2", "--mutation-rate 0.2 does nothing here"),
        ("search --variant ND --beta 2", "--beta 2.0 does nothing here"),
        ("evaluate --channels -5", "--channels must be 0 or more"),
    ],
)
def test_one_line_for_what_cannot_run(command, words, tmp_path, capsys):
    assert words in mistake(capsys, *command.split(), "--out", str(tmp_path / "run"))


@pytest.mark.parametrize("content", [[torch.zeros(2)], torch.zeros(2), {1: torch.zeros(2)}, {"state_dict": [1]}])
def test_a_file_without_a_state_dict(content, tmp_path, capsys):
    torch.save(content, tmp_path / "w.pt")
    line = mistake(capsys, "evaluate", "--checkpoint", str(tmp_path / "w.pt"), "--out", str(tmp_path / "run"))
    assert "holds no weights" in line
