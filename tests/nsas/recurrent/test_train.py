"""Training a recurrent cell: what a loss that is not a number does."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from common.errors import UserError
from tests.nsas.small import TRAIN_TEXT, module_of, options


@pytest.mark.parametrize("averaging", [False, True])
def test_a_roll_back_ends_its_epoch(averaging, tmp_path, monkeypatch):
    """The loss is not a number in the second epoch: the restored model is evaluated and, under SGD, the rule asked."""
    module, run = module_of("recurrent.train:train")
    step, evaluate, calls, valid, asked = module.train_step, module.text_loss, [], [], []

    def broken(*args):
        value, hidden = step(*args)
        calls.append(1)
        return (float("nan") if len(calls) == 9 else value), hidden

    def evaluated(*args):
        valid.append(evaluate(*args))
        return valid[-1]

    def switches(losses, loss, nonmono):
        asked.append(len(losses))
        return averaging and len(asked) == 1

    for name, function in (("train_step", broken), ("text_loss", evaluated), ("switches_to_averaging", switches)):
        monkeypatch.setattr(module, name, function)
    run(replace(TRAIN_TEXT, epochs=3), options(tmp_path, "train_ptb"))
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [row["rolled_back"] for row in rows] == ["False", "True", "False"]
    assert valid[1] == valid[0]  # the second epoch evaluates the model saved in the first
    assert asked == [0, 1, 2]  # the saved model is that of the SGD phase, whichever phase broke


def test_a_roll_back_without_a_model_ends_the_run(tmp_path, monkeypatch):
    module, run = module_of("recurrent.train:train")
    monkeypatch.setattr(module, "train_step", lambda *args: (float("nan"), args[3]))
    with pytest.raises(UserError, match="no model was saved yet"):
        run(TRAIN_TEXT, options(tmp_path, "train_ptb"))
