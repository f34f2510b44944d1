"""Searches and trainings that were stopped end as if they had not been, byte for byte."""

from __future__ import annotations

import pytest

from common.run.folder import Run
from common.spaces.darts import train as train_module
from papers.evnas.search import search
from papers.evnas.settings import Train
from papers.evnas.train import train
from tests.evnas.small import NB201_SEARCH, TRAIN, change, options, train_options


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_a_stopped_search_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, stop):
    """Stopped after any save: in training, in the fitness of an individual, in the second generation."""
    settings = change(NB201_SEARCH, fitness_bn="batch", fitness_augment=True)
    search(settings, options(tmp_path / "whole"))
    saves = 0
    original = Run.write_state

    def save(self, state):
        nonlocal saves
        original(self, state)
        saves += 1
        if saves == stop:
            raise KeyboardInterrupt

    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    monkeypatch.setattr(Run, "write_state", save)
    with pytest.raises(KeyboardInterrupt):
        search(settings, options(tmp_path / "parts"))
    monkeypatch.setattr(Run, "write_state", original)
    search(settings, options(tmp_path / "parts"))
    names = ("result.json", "history.csv", "individuals.csv", "supernet.safetensors", "architecture.json")
    for name in (*names, "populations.npz"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name


def test_an_interrupted_training_ends_the_same(tmp_path, monkeypatch):
    settings = Train(**{**TRAIN, "auxiliary": True, "drop_path": 0.3})
    whole = train(settings, train_options(tmp_path / "whole"))
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    real, calls = train_module.train_step, []

    def interrupted(*args, **kwargs):
        if len(calls) == 5:  # the second epoch's second step has been saved
            raise KeyboardInterrupt
        calls.append(kwargs["step"])
        return real(*args, **kwargs)

    monkeypatch.setattr(train_module, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(settings, train_options(tmp_path / "cut"))
    monkeypatch.setattr(train_module, "train_step", real)
    train(settings, train_options(tmp_path / "cut"))
    for name in ("weights.safetensors", "history.csv", "result.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert whole["metrics"]["parameters"] > 0
