"""The defaults are the published runs: typed here a second time."""

from __future__ import annotations

import csv
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file

from common.cli.verbs import RunOptions
from common.data.augment import Augmentation
from common.data.sets import Images
from papers.evnas.data import augmentation
from papers.evnas.search import search, sgd
from papers.evnas.settings import VARIANTS, SearchDARTS, SearchNB201, Train, TrainImageNet

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
        "arch": "EvNASA", "dataset": "cifar10", "train_images": 0, "channels": 36, "layers": 20, "parts": 0,
        "auxiliary": True, "auxiliary_weight": 0.4, "epochs": 600, "batch_size": 96, "eval_batch_size": 96,
        "lr": 0.025, "momentum": 0.9,
        "weight_decay": 3e-4, "clip": 5.0, "drop_path": 0.2, "pad": 4, "flip": True, "cutout": 16, "eval_every": 1,
    },
    TrainImageNet: {
        "arch": "EvNASA", "dataset": "imagenet", "train_images": 0, "channels": 48, "layers": 14, "parts": 0,
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


def test_augmentations_of_both_spaces():
    """DARTS: crop, then flip, cutout of 16; NAS-Bench-201: flip, then crop, constants in 255ths, nothing cut out."""
    images = Images(
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.zeros(1, dtype=torch.long), ("a",), "cifar10", True
    )
    mean, std = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
    assert augmentation(SearchDARTS(), images) == Augmentation(mean, std, 4, True, 16, "crop_flip")
    mean, std = (tuple(v / 255 for v in row) for row in ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)))
    assert augmentation(SearchNB201(), images) == Augmentation(mean, std, 4, True, 0, "flip_crop")
    small = replace(images, pixels=torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    assert augmentation(SearchNB201(), small).pad == 2


@pytest.mark.parametrize("cls", [SearchDARTS, SearchNB201])
def test_ablations_change_what_they_name(cls, tmp_path):
    """NDF leaves training alone and changes the fitness; NDT changes the weights."""
    size = {"layers": 3} if cls is SearchDARTS else {"cells_per_stage": 1}
    base = cls(
        dataset="digits", split="index", train_images=48, fitness_images=64, channels=4, generations=1, batch_size=16,
        fitness_batch_size=64, population=2, tournament=1, fitness_bn="running", fitness_augment=False, **size,
    )  # fmt: skip
    weights, losses = {}, {}
    for name in ("authors", "NDF", "NDT"):
        options = RunOptions(paper="evnas", section="search", out=tmp_path / name, device="cpu")
        search(replace(base, **VARIANTS[cls].get(name, {})), options)
        weights[name] = load_file(tmp_path / name / "supernet.safetensors")
        with (tmp_path / name / "individuals.csv").open() as lines:
            losses[name] = [float(row["loss"]) for row in csv.DictReader(lines)]

    def equal(a, b):
        # alphas are buffers of the model: what was loaded last, not what was trained
        return all(torch.equal(v, weights[b][k]) for k, v in weights[a].items() if "alpha" not in k and "arch" not in k)

    assert equal("authors", "NDF") and losses["authors"] != losses["NDF"]
    assert not equal("authors", "NDT")
