"""``train --checkpoint`` beyond derived networks of images: cells of NAS-Bench-201 and recurrent cells."""

from __future__ import annotations

import importlib
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from common.errors import UserError
from common.run.folder import Run
from common.spaces.nasbench201.settings import TrainCell
from common.weights.read import read_metadata
from papers.nsas.evaluate import evaluate as evaluate_images
from papers.nsas.recurrent.train import train as train_text
from papers.nsas.settings import Evaluate, Train
from papers.nsas.train import train as train_images
from tests.nsas.small import TRAIN_TEXT, Stop, options
from tests.plain import own_pictures

CELL = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
TRAIN = {"evnas": ("papers.evnas.train", "train_nb201"), "nsas": ("papers.nsas.nasbench201.result", "train")}


def train_cell(paper, settings, out, given=frozenset()):
    module, name = TRAIN[paper]
    asked = replace(options(out, "train_nb201", given=given), paper=paper)
    return getattr(importlib.import_module(module), name)(settings, asked)


@pytest.mark.parametrize("paper", TRAIN)
def test_a_cell_is_fine_tuned(paper, tmp_path):
    """At a learning rate of 0 the weights are those that were loaded; of other classes the classifier is new."""
    own = own_pictures(tmp_path / "own", each=5, side=16)
    other = own_pictures(tmp_path / "other", each=5, side=16)
    shutil.rmtree(other / "red")
    base = {"epochs": 1, "batch_size": 6, "pad": 2}
    first = TrainCell(arch=CELL, dataset=str(own), channels=2, cells_per_stage=1, **base)
    train_cell(paper, first, tmp_path / "run")
    held = load_file(tmp_path / "run" / "weights.safetensors")
    for name, dataset, classes in (("same", own, 3), ("others", other, 2)):
        settings = TrainCell(checkpoint=str(tmp_path / "run"), dataset=str(dataset), lr=0.0, weight_decay=0.0, **base)
        result = train_cell(paper, settings, tmp_path / name)
        assert result["started_from"]["starts_anew"] == (["classifier"] if classes == 2 else [])
        assert result["architecture"] == CELL and result["tables"].get("same_recipe") is not True
        made = load_file(tmp_path / name / "weights.safetensors")
        kept = [k for k in held if held[k].is_floating_point() and "running" not in k]
        same = {k for k in kept if made[k].shape == held[k].shape and torch.equal(made[k], held[k])}
        assert set(kept) - same <= ({"classifier.weight", "classifier.bias"} if classes == 2 else set())
        assert len(made["classifier.weight"]) == classes
        assert read_metadata(tmp_path / name / "weights.safetensors")["architecture"] == CELL
    settings = replace(settings, checkpoint=str(tmp_path / "run"))
    if paper == "nsas":
        with pytest.raises(UserError, match=r"a network of space nasbench201, not darts-rnn; add --space nb201"):
            train_text(replace(TRAIN_TEXT, checkpoint=str(tmp_path / "run")), options(tmp_path / "no"))
    wrong = (({"channels": 4}, "--channels 4: .* has channels 2"), ({"arch": "000000"}, "holds another architecture"))
    for values, line in wrong:
        with pytest.raises(UserError, match=line):
            train_cell(paper, replace(settings, **values), tmp_path / "no", frozenset(values))


def text(out, **values):
    return train_text(replace(TRAIN_TEXT, epochs=1, **values), options(out, "train_ptb"))


def test_a_recurrent_network_is_fine_tuned_stopped_and_goes_on(tmp_path, monkeypatch, capsys):
    text(tmp_path / "run")
    file = tmp_path / "run" / "weights.safetensors"
    held = load_file(file)
    same = text(tmp_path / "same", checkpoint=str(file), arch="Random_NSAS", lr=0.0, weight_decay=0.0)
    made = load_file(tmp_path / "same" / "weights.safetensors")
    assert set(made) == set(held) and all(torch.equal(made[k], held[k]) for k in held)
    assert same["started_from"]["starts_anew"] == []
    fewer = text(tmp_path / "fewer", checkpoint=str(tmp_path / "run"), max_types=100, lr=0.0, weight_decay=0.0)
    made = load_file(tmp_path / "fewer" / "weights.safetensors")
    words = {"encoder.weight", "decoder.weight", "decoder.bias"}
    assert set(fewer["started_from"]["starts_anew"]) == words and len(made["encoder.weight"]) < len(
        held["encoder.weight"]
    )
    assert all(torch.equal(made[k], held[k]) for k in set(held) - words)
    assert "others: embedding and decoder start anew, the cell is taken" in capsys.readouterr().err
    other = f"Genotype(recurrent={[('tanh', i) for i in range(8)]}, concat=range(1, 9))"
    for word, value, line in (
        ("width", 9, r"--width 9: .* has width 8"),
        ("arch", other, "holds another architecture"),
    ):
        asked = replace(TRAIN_TEXT, checkpoint=str(file), **{word: value})
        with pytest.raises(UserError, match=line):
            train_text(asked, options(tmp_path / "no", given=frozenset({word})))
    for run in ((train_images, Train(checkpoint=str(file))), (evaluate_images, Evaluate(checkpoint=str(file)))):
        with pytest.raises(UserError, match=r"a network of space darts-rnn, not darts; add --space ptb"):
            run[0](run[1], options(tmp_path / "no"))
    settings = replace(TRAIN_TEXT, checkpoint=str(file))
    whole = train_text(settings, options(tmp_path / "whole", "train_ptb"))
    write = Run.write_state

    def dies(run, state):
        write(run, state)
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Run, "write_state", dies)
        train_text(settings, options(tmp_path / "stopped", "train_ptb"))
    assert train_text(settings, options(tmp_path / "stopped", "train_ptb"))["metrics"] == whole["metrics"]
    assert len({(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "stopped")}) == 1
