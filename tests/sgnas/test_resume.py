"""Runs that stop inside an epoch and go on end byte for byte as those that were never stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from papers.sgnas import search as search_module
from papers.sgnas import train as train_module
from papers.sgnas.method import scoring
from papers.sgnas.search import search, search_supernet
from papers.sgnas.settings import Train
from papers.sgnas.studies.evolve import evolve
from papers.sgnas.studies.settings import Evolve, Sweep
from papers.sgnas.studies.sweep import sweep
from papers.sgnas.train import train
from tests.sgnas.small import SMALL, options

ONE = replace(SMALL, switchable_bn=False, generator_epochs=1)


class Stop(Exception):
    pass


@pytest.fixture(autouse=True)
def _save_after_every_step(monkeypatch):
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")


def stopped_and_resumed(run, monkeypatch, module, name: str, call: int) -> None:
    """Call ``run`` twice; the first time it stops in call number ``call`` of a function of ``module``."""
    original, calls = getattr(module, name), []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise Stop
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, interrupted)
        with pytest.raises(Stop):
            run()
    run()


@pytest.mark.parametrize(("name", "call"), [("supernet_gradients", 2), ("score", 1), ("accuracy_loss", 2)])
def test_search(whole, tmp_path, monkeypatch, name, call):
    reference, _ = whole
    run = tmp_path / "run"
    stopped_and_resumed(lambda: search(SMALL, options(run)), monkeypatch, search_module, name, call)
    files = ["history.csv", "result.json", "architecture.json", "generator.safetensors", "supernet.safetensors"]
    for file in [*files, "architecture-3.json", "architecture-3.75.json", "architecture-4.5.json"]:
        assert (run / file).read_bytes() == (reference / file).read_bytes(), file


def test_supernet_with_one_normalisation(tmp_path, monkeypatch):
    search_supernet(ONE, options(tmp_path / "whole"))
    run = tmp_path / "run"
    stopped_and_resumed(lambda: search_supernet(ONE, options(run)), monkeypatch, search_module, "supernet_gradients", 2)
    name = "supernet.safetensors"
    assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("call", [2, 4, 7])
def test_evolution(whole, tmp_path, monkeypatch, call):
    """Stopped among the first candidates, among the children, and at the next target."""
    settings = Evolve(
        supernet=str(whole[0]), search_images=32, targets=(3.0, 4.0), tolerance=0.2, population=2, generations=2
    )
    evolve(settings, options(tmp_path / "whole", "evolve"))
    run = tmp_path / "run"
    stopped_and_resumed(lambda: evolve(settings, options(run, "evolve")), monkeypatch, scoring, "score", call)
    for file in ("history.csv", "result.json", "architecture.json"):
        assert (run / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_sweep(whole, tmp_path, monkeypatch):
    folder = str(whole[0])
    settings = Sweep(generator=folder, supernet=folder, search_images=32, step_mflops=0.5)
    sweep(settings, options(tmp_path / "whole", "sweep"))
    run = tmp_path / "run"
    stopped_and_resumed(lambda: sweep(settings, options(run, "sweep")), monkeypatch, scoring, "score", 3)
    for file in ("sweep.csv", "result.json"):
        assert (run / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


@pytest.mark.parametrize(("name", "call"), [("train_step", 2), ("train_step", 4), ("evaluate", 2)])
def test_train(whole, tmp_path, monkeypatch, name, call):
    """With dropout and averaged weights: stopped in the first epoch, in the second, and in its test."""
    settings = Train(
        arch=str(whole[0] / "architecture.json"), dataset="digits", train_images=96, epochs=2, batch_size=32, parts=0,
        lr=0.01, warmup_epochs=0, ema_decay=0.5, dropout=0.5,
    )  # fmt: skip
    train(settings, options(tmp_path / "whole", "train"))
    run = tmp_path / "run"
    stopped_and_resumed(lambda: train(settings, options(run, "train")), monkeypatch, train_module, name, call)
    for file in ("history.csv", "result.json", "weights.safetensors"):
        assert (run / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
