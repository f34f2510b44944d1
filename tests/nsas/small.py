"""Tiny settings of every stage, and what the tests of this folder share."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

from common.cli.verbs import RunOptions
from common.weights.read import load_strict, read_checkpoint
from papers.nsas.nasbench201.settings import SearchNb201Gdas, SearchNb201Random
from papers.nsas.recurrent.evaluate import PICKLED_CLASSES
from papers.nsas.recurrent.settings import SearchRecurrent, TrainRecurrent
from papers.nsas.settings import SearchGdas, SearchRandom, Train
from papers.nsas.studies.settings import Experiment

IMAGES = {"dataset": "digits", "train_images": 24, "epochs": 2, "batch_size": 6}
HALVES = {**IMAGES, "train_images": 120, "batch_size": 30}  # random halves, each with all ten classes
RANDOM = SearchRandom(
    **IMAGES, channels=2, layers=3, table="raw", constraints=2, select_rounds=1, select_candidates=2, select_images=10
)
GDAS = SearchGdas(**IMAGES, channels=2, layers=3, table="raw", constraints=2)
NB201_RANDOM = SearchNb201Random(**HALVES, channels=2, cells=1, select_candidates=2, select_images=50)
NB201_GDAS = SearchNb201Gdas(**HALVES, channels=2, cells=1)
TEXT = {"text": "kjv", "max_tokens": 4000, "max_types": 200, "width": 8, "epochs": 2, "bptt": 10}
RECURRENT = SearchRecurrent(
    **{**TEXT, "max_tokens": 2500}, batch_size=64, path="sampled", constraints=2, select_candidates=2, select_rows=10,
    recalibrate_chunks=1,
)  # fmt: skip
TRAIN_CNN = Train(**IMAGES, channels=2, layers=3, auxiliary=False, eval_batch_size=500, eval_every=2)
TRAIN_TEXT = TrainRecurrent(**TEXT, batch_size=64, nonmono=5)
EXPERIMENT = Experiment(
    dataset="digits", train_images=120, loss="paper", constraints=2, channels=2, cells=1, epochs=2, batch_size=30,
    probe_every=1, probe_images=8, rank_cells=3, rank_images=50, recalibrate_batches=1,
)  # fmt: skip

# name: (run, settings, function that is called once a step)
STAGES = {
    "search_random": ("search_random:search", RANDOM, "differentiate"),
    "search_gdas": ("search_gdas:search", GDAS, "differentiate"),
    "search_gdas_head": ("search_gdas:search", replace(GDAS, semantics="head"), "differentiate"),
    "search_nb201_random": ("nasbench201.search_random:search", NB201_RANDOM, "differentiate"),
    "search_nb201": ("nasbench201.search_gdas:search", NB201_GDAS, "differentiate"),
    "search_ptb": ("recurrent.search:search", RECURRENT, "differentiate"),
    "search_ptb_fixed": ("recurrent.search:search", replace(RECURRENT, path="fixed"), "differentiate"),
    "train": ("train:train", TRAIN_CNN, "common.spaces.darts.train:train_step"),
    "train_ptb": ("recurrent.train:train", TRAIN_TEXT, "train_step"),
    "experiments": ("studies.forgetting:experiment", EXPERIMENT, "check_finite"),
}


class Stop(Exception):
    pass


def options(out: Path, section: str = "search", **more) -> RunOptions:
    more.setdefault("given", frozenset())  # as from a profile: nothing typed
    return RunOptions(out=out, device="cpu", paper="nsas", section=section, **more)


def module_of(target: str):
    name, _, function = target.partition(":")
    module = importlib.import_module(f"papers.nsas.{name}")
    return module, getattr(module, function)


def step_of(module, each: str):
    """(module, name) of the function that a run calls once a step; in the paper's module unless another is named."""
    where, _, name = each.rpartition(":")
    return (importlib.import_module(where) if where else module), name


def stop_at(monkeypatch, module, name: str, call: int) -> None:
    """The ``call``-th step raises."""
    original, calls = getattr(module, name), []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise Stop
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, counted)


def equal_folders(one: Path, other: Path) -> None:
    own = {"env.json", "timing.json", "cost.csv", "settings.json", ".lock"}  # durations, versions, the folder's name
    names = {p.name for p in one.iterdir() if p.is_file()} - own
    assert "result.json" in names and "history.csv" in names
    for name in sorted(names):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def fake_experiments(folder, runs, **more):
    for loss, constraints, seed, forgetting in runs:
        path = folder / f"{loss}-{constraints}-{seed}"
        path.mkdir(parents=True)
        metrics = {"forgetting_points": forgetting, "chosen_supernet_accuracy_percent": 50.0,
                   "mean_supernet_accuracy_percent": 40.0}  # fmt: skip
        found = {"paper": "nsas", "stage": "experiments", "seed": seed, "metrics": metrics}
        found["settings"] = {"loss": loss, "constraints": constraints, "summarise": "", **more}
        (path / "result.json").write_text(json.dumps(found))


def load_recurrent(model, path: str) -> None:
    """A recurrent network's weights into ``model``, from any container."""
    found = read_checkpoint(path, classes=PICKLED_CLASSES)
    found.tensors.setdefault("decoder.weight", found.tensors["encoder.weight"])
    load_strict(model, found.tensors)
