"""Which text the recurrent stages read, which cell the search chooses, which weights the training keeps."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from common.run import seeds
from papers.nsas.recurrent import evaluate as testing
from papers.nsas.recurrent.supernet import genotype, sample
from tests.nsas.small import RECURRENT, TRAIN_TEXT, module_of, options


def test_the_search_chooses_the_cell_of_the_lowest_perplexity(tmp_path, monkeypatch):
    """Scored on the validation text, its batch norm renewed on the training text; every epoch begins with no memory."""
    module, run = module_of("recurrent.search:search")
    losses, scored, renewed, memories = iter([9.0, 8.0, 3.0, 1.0, 2.0]), [], [], []
    setting, step = module.set_cell, module.differentiate

    def text_loss(model, stream, bptt):
        scored.append(tuple(stream.shape))
        return next(losses)

    def set_cell(model, code, train, chunks, bptt):
        renewed.append((train.shape[1], chunks))
        setting(model, code, train, chunks, bptt)

    def differentiate(loss_of, model, shares, cells, *rest, **where):
        assert model.training
        memories.append((where["step"], float(sum(state.abs().sum() for state in shares[0][0][1]))))
        return step(loss_of, model, shares, cells, *rest, **where)

    for name, function in (("text_loss", text_loss), ("set_cell", set_cell), ("differentiate", differentiate)):
        monkeypatch.setattr(module, name, function)
    found = run(replace(RECURRENT, select_candidates=3), options(tmp_path, "search_ptb"))
    rng = seeds.numpy_rng(0, "select")
    cells = [sample(rng) for _ in range(3)]
    assert found["architecture"]["recurrent"] == [list(pair) for pair in genotype(cells[1])]
    assert found["metrics"]["supernet_valid_perplexity"] == pytest.approx(math.exp(1.0))
    assert scored == [(RECURRENT.select_rows, 10)] * 5 and renewed == [(64, 1)] * 5
    begun = [memory for step, memory in memories if step == 0]
    assert begun == [0.0, 0.0] and all(memory > 0 for step, memory in memories if step)


def test_the_training_tests_the_weights_of_the_best_epoch(tmp_path, monkeypatch):
    """Epochs are judged by the validation text in ten columns; the best one's weights are tested in one column."""
    module, run = module_of("recurrent.train:train")
    losses, read, weights = iter([5.0, 3.0, 4.0, 6.0]), [], []

    def text_loss(model, stream, bptt):
        read.append(stream.shape[1])
        weights.append(model.encoder.weight.detach().clone())
        return next(losses)

    for place in (module, testing):
        monkeypatch.setattr(place, "text_loss", text_loss)
    found = run(replace(TRAIN_TEXT, epochs=3), options(tmp_path, "train_ptb"))
    assert read == [10, 10, 10, 1]
    assert torch.equal(weights[3], weights[1]) and not torch.equal(weights[2], weights[1])
    assert torch.equal(load_file(tmp_path / "weights.safetensors")["encoder.weight"], weights[1])
    metrics = found["metrics"]
    assert (metrics["valid_perplexity"], metrics["test_perplexity"]) == pytest.approx((math.exp(3), math.exp(6)))
    with (tmp_path / "history.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [float(row["valid_perplexity"]) for row in rows] == pytest.approx([math.exp(v) for v in (5, 3, 4)])


def test_averaging_begins_once_validation_stalls(tmp_path, monkeypatch):
    """By the rule with its five epochs: the eighth loss is the first above the lowest of all but the five before it."""
    module, run = module_of("recurrent.train:train")
    losses = iter([1.0, 0.9, 2.0, 3.0, 4.0, 5.0, 0.95, 1.2, 7.0])
    monkeypatch.setattr(module, "text_loss", lambda *_: next(losses))
    monkeypatch.setattr(module, "train_step", lambda *args: (1.0, args[3]))
    run(replace(TRAIN_TEXT, epochs=8), options(tmp_path, "train_ptb"))
    with (tmp_path / "history.csv").open() as lines:
        averaging = [row["averaging"] for row in csv.DictReader(lines)]
    assert averaging == ["False"] * 7 + ["True"]
