"""Settings: the defaults are the published runs, typed here a second time; each setting acts or is refused by name.

For the latter the real stages run, on recorders instead of networks. A run leaves a trace: what is built, what every
epoch is given, what is tested. Changing a setting changes it.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import asdict
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.cli.verbs import RunOptions
from common.data.sets import open_images
from common.run.folder import Run
from common.spaces.architecture import save_architecture
from common.spaces.darts import data as images_data
from common.spaces.darts import train as train_module
from common.train.loop import Metrics
from common.weights.read import save_weights
from papers.evnas import data as search_data
from papers.evnas import evaluate as evaluate_module
from papers.evnas import search as search_module
from papers.evnas.describe import describe, draw
from papers.evnas.networks.architectures import PUBLISHED as CELLS
from papers.evnas.networks.architectures import build, load_genotype
from papers.evnas.search import sgd
from papers.evnas.settings import Describe, Draw, Evaluate, SearchDARTS, SearchNB201, Train, TrainImageNet
from papers.evnas.train import train
from tests.settings_walk import walk

SHARED = {
    "dataset": "cifar10", "channels": 16, "generations": 50, "batch_size": 64, "fitness_batch_size": 1024,
    "lr": 0.025, "lr_min": 0.001, "momentum": 0.9, "weight_decay": 3e-4, "clip": 5.0,
    "flip": True, "population": 50, "tournament": 10, "elites": 1, "mutation_rate": 0.1, "decode_train": True,
    "decode_fitness": True, "beta": 1.0, "crossover": True, "mutation": True, "strategy": "evolution",
    "train_images": 0, "fitness_images": 0, "parts": 0,
    "pad": -1,
}  # fmt: skip
PUBLISHED = {
    SearchDARTS: {
        **SHARED, "layers": 8, "split": "index", "nesterov": False, "cutout": 16, "fitness_bn": "batch",
        "fitness_augment": True,
    },
    SearchNB201: {
        **SHARED, "cells_per_stage": 5, "split": "official", "nesterov": True, "cutout": 0, "fitness_bn": "running",
        "fitness_augment": False, "track_running_stats": True,
    },
    Train: {
        "arch": "EvNASA", "checkpoint": "",
        "dataset": "cifar10", "train_images": 0, "channels": 36, "layers": 20, "parts": 0,
        "auxiliary": True, "auxiliary_weight": 0.4, "epochs": 600, "batch_size": 96, "eval_batch_size": 96,
        "lr": 0.025, "momentum": 0.9,
        "weight_decay": 3e-4, "clip": 5.0, "drop_path": 0.2, "pad": 4, "flip": True, "cutout": 16, "eval_every": 1,
    },
    TrainImageNet: {
        "arch": "EvNASA", "checkpoint": "",
        "dataset": "imagenet", "train_images": 0, "channels": 48, "layers": 14, "parts": 0,
        "auxiliary": True, "auxiliary_weight": 0.4, "epochs": 250, "batch_size": 256, "eval_batch_size": 256,
        "schedule": "linear", "lr": 0.1, "warmup_epochs": 5, "momentum": 0.9, "weight_decay": 3e-5, "clip": 5.0,
        "label_smoothing": 0.1, "drop_path": 0.0, "eval_every": 1, "workers": 8,
    },
}  # fmt: skip


@pytest.mark.parametrize("settings", PUBLISHED)
def test_defaults(settings):
    assert asdict(settings()) == PUBLISHED[settings]


@pytest.mark.parametrize("settings", [SearchDARTS(), SearchNB201()])
def test_the_optimizer_is_built_from_them(settings):
    found = sgd(torch.nn.Linear(2, 2), settings).defaults
    want = {"lr": 0.025, "momentum": 0.9, "weight_decay": 3e-4, "nesterov": isinstance(settings, SearchNB201)}
    assert {name: found[name] for name in want} == want


SEARCH = {
    "dataset": "digits", "channels": 2, "generations": 2, "train_images": 60, "fitness_images": 60, "batch_size": 20,
    "fitness_batch_size": 30, "population": 4, "tournament": 2, "pad": 2, "cutout": 2,
}  # fmt: skip


class Trace(list):
    """What happened, as texts; tensors by their content."""

    def add(self, *what) -> None:
        self.append(repr([plain(w) for w in what]))

    def digest(self) -> str:
        return hashlib.sha256("\n".join(self).encode()).hexdigest()


def plain(value):
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(value.detach().contiguous().numpy().tobytes()).hexdigest(), tuple(value.shape)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def shape(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def group(optimizer):
    return {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}


@pytest.fixture
def fresh(tmp_path):
    """Options of a run in a new folder at every call."""
    numbers = count()
    return lambda: RunOptions(
        paper="evnas", section="walk", out=tmp_path / f"run{next(numbers)}", data=tmp_path / "nowhere", device="cpu",
        allow_unpinned=True,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Sets are read once, and no state is saved."""
    for module in (search_data, images_data):
        monkeypatch.setattr(module, "open_images", opened)
    monkeypatch.setattr(Run, "write_state", lambda self, state: None)


@functools.cache
def read(name, split):
    return open_images(name, split, RunOptions(device="cpu"))


def opened(name, split, options):
    return read(name, split)


@pytest.fixture
def pictures(tmp_path):
    """Two sets of class folders, of other pictures."""
    for name, start in (("one", 0), ("two", 50)):
        for part, images in (("train", 6), ("val", 4)):
            for label in "ab":
                (tmp_path / name / part / label).mkdir(parents=True)
                for i in range(images):
                    pixels = np.random.RandomState(start + i + 10 * (label == "b")).randint(0, 256, (24, 20, 3))
                    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / part / label / f"{i}.png")
    return str(tmp_path / "one"), str(tmp_path / "two")


@pytest.mark.parametrize(
    "settings",
    [SearchDARTS(**SEARCH, layers=3), SearchNB201(**SEARCH, cells_per_stage=1, split="index", fitness_bn="batch")],
    ids=["darts", "nb201"],
)
def test_walk_of_search(settings, fresh, monkeypatch):
    trace, measured = Trace(), []

    def descend(model, optimizer, shares, individual, clip_norm, precision, where):
        statistics = [type(m).__name__ for m in model.modules() if getattr(m, "running_mean", None) is not None]
        trace.add("train", shape(model), len(statistics), group(optimizer), shares, individual, clip_norm, where)
        return 1.0

    def measure(forward, shares, individual, counter, precision):
        trace.add("measure", getattr(forward, "training", None), shares, individual)
        measured.append(individual)

    def score(counter):
        return [float(hash_of(measured[-1])), 50.0, 1.0]

    def hash_of(individual) -> int:
        return int(hashlib.sha256(repr(plain(individual)).encode()).hexdigest()[:4], 16)

    for replacement in (descend, measure, score):
        monkeypatch.setattr(search_module, replacement.__name__, replacement)

    def digest(changed):
        trace.clear()
        result = search_module.search(changed, fresh())
        trace.add(result["architecture"], result["metrics"])
        return trace.digest()

    walk(digest, settings, {"parts": 2}, {"dataset": "names the images that the trace holds"})


def trained(monkeypatch, trace):
    def train_step(model, shares, optimizer, loss_of, *, clip_norm, precision, counter, step):
        logits = torch.linspace(0, 1, 20).view(2, 10).contiguous()
        loss = loss_of((logits, 2 * logits), torch.tensor([1, 3]))
        trace.add(shape(model), model.drop_path_prob, group(optimizer), shares, loss, clip_norm, step)

    def evaluate(model, batches, *_):
        trace.add("test", list(batches))
        return Metrics(1.0, 50.0, 50.0, 7)

    monkeypatch.setattr(train_module, "train_step", train_step)
    monkeypatch.setattr(train_module, "evaluate", evaluate)


def test_walk_of_train(fresh, monkeypatch):
    trace = Trace()
    trained(monkeypatch, trace)
    settings = Train(
        dataset="digits", train_images=50, channels=2, layers=2, auxiliary=False, epochs=3, batch_size=20,
        eval_batch_size=400, pad=2, cutout=2, eval_every=2,
    )  # fmt: skip

    def digest(changed):
        trace.clear()
        train(changed, fresh())
        return trace.digest()

    walk(
        digest,
        settings,
        {"arch": "EvNASB", "parts": 2, "checkpoint": "absent"},
        {"dataset": "names the images", "auxiliary": "needs 32 pixels"},
    )


def test_walk_of_train_imagenet(fresh, pictures, monkeypatch):
    trace = Trace()
    trained(monkeypatch, trace)
    settings = TrainImageNet(
        dataset=pictures[0], channels=4, layers=2, auxiliary=False, epochs=6, batch_size=4, eval_batch_size=3,
        workers=0, drop_path=0.1, eval_every=2,
    )  # fmt: skip

    def digest(changed):
        trace.clear()
        train(changed, fresh())
        return trace.digest()

    walk(digest, settings, {"arch": "EvNASB", "dataset": pictures[1], "parts": 2, "checkpoint": "absent"})


def test_walk_of_evaluate_describe_draw(fresh, tmp_path, monkeypatch):
    trace = Trace()
    names = []
    for name in ("EvNASA", "EvNASC"):
        torch.manual_seed(len(names))
        names.append(str(tmp_path / f"{name}.safetensors"))
        about = {"architecture": CELLS[name].as_dict(), "dataset": "digits"}
        save_weights(build(load_genotype(name), False, 10, 4, 3), Path(names[-1]), about)

    def tested(model, batches, *_):
        trace.add(dict(shape(model)), list(model.state_dict().values()), next(iter(batches)))
        return Metrics(1.0, 50.0, 50.0, 7)

    monkeypatch.setattr(evaluate_module, "test_metrics", tested)

    def digest(changed):
        trace.clear()
        found = evaluate_module.evaluate(changed, fresh())
        return trace.digest(), str(found["architecture"])

    weights = {"weights": "the file says nothing of an average: refused (tests/common/test_weights.py)"}
    skipped = {"channels": "must fit the weights", "layers": "must fit the weights", "arch": "must fit the weights"}
    walk(digest, Evaluate(checkpoint=names[0]), {"checkpoint": names[1], "dataset": "cifar100"},
         {**skipped, **weights, "dataset": "another than the file's is refused: test_train.py"})  # fmt: skip
    walk(lambda s: str(describe(s, fresh())), Describe(), {"arch": "EvNASB", "dataset": "cifar100"})
    path = tmp_path / "architecture.json"
    save_architecture(path, "darts", CELLS["EvNASC"].as_dict())

    def drawn(changed):
        files = draw(changed, fresh())["files"]
        return [hashlib.sha256(Path(f).read_bytes()).hexdigest() + Path(f).suffix for f in files]

    walk(drawn, Draw(format="dot"), {"arch": str(path)}, {"format": "the suffix of the file"})
