"""What a search makes of its supernet, a second time, written plainly: the check of an epoch, re-scoring, the baseline.

The published settings typed again.
"""

import csv
from dataclasses import asdict, replace

import pytest
import torch

from common.data.sets import open_images
from common.weights.read import load_strict
from papers.cream.method.space import space_of
from papers.cream.networks.networks import Supernet
from papers.cream.search import search
from papers.cream.select import select
from papers.cream.settings import (
    GENERIC_TRAIN,
    MODERN_SEARCH,
    PAPER_SEARCH,
    Search,
    Select,
    Train,
)
from papers.cream.studies.settings import RankStudy
from tests.cream.tools import SEARCH, TESTED, options, weights

MEAN, STD = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))


def digits(split, *places):
    """(pixels, labels) of some digits, normalised as ImageNet is."""
    images = open_images("digits", split, options(None, "search")).subset(range(*places))
    return (images.pixels / 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1), images.labels


def supernet_of(folder):
    space = space_of(SEARCH)
    net = Supernet(space.window.built, 10, SEARCH.slice, space.layout)
    load_strict(net, weights(folder))
    return net


@torch.no_grad()
def error(net, path, images, labels):
    return 100 * float((net.eval()(images, path).argmax(1) != labels).double().mean())


@torch.no_grad()
def rescored(folder, path, batches, scoring):
    """Statistics are the plain averages over batches of eight of the first training images; then held-out images."""
    net, (images, _) = supernet_of(folder), digits("train", 0, 64)
    for norm in net.path_norms(path):
        norm.reset_running_stats()
        norm.momentum = None
    for x in images.split(8)[:batches]:
        net.train()(x, path)
    return error(net, path, *digits("train", *scoring))


def test_the_check_of_an_epoch(searched):
    """A random path, the statistics as they are, on the test part."""
    folder, _ = searched
    with (folder / "history.csv").open() as lines:
        last = list(csv.DictReader(lines))[-1]
    path = space_of(SEARCH).draw(3, -2)
    found = error(supernet_of(folder), path, *digits("test", TESTED))
    assert float(last["random_path_top1_error_percent"]) == pytest.approx(found)


@pytest.mark.parametrize("images", [12, 0])
def test_select_scores_on_what_was_held_out(searched, tmp_path, images):
    """The last 16 of 80 training images were; of them the first 12, or all."""
    folder, result = searched
    settings = Select(search=str(folder), recalibrate_batches=3, select_images=images)
    chosen = select(settings, options(tmp_path, "select"))
    rows = {str(row["path"]): row["top1_error_percent"] for row in chosen["scored"]}
    for entry in result["board"]:
        path = entry["path"]
        want = rescored(folder, path, 3, (64, 64 + (images or 16)))
        assert rows[str(path)] == pytest.approx(want)
    assert chosen["architecture"]["path"] == min(chosen["scored"], key=lambda r: r["top1_error_percent"])["path"]


def test_the_baseline_scores_random_paths(tmp_path):
    """They are drawn far from those of the iterations, and scored as a board is."""
    settings = replace(SEARCH, method="random", epochs=1, candidates=3, recalibrate_batches=2, select_images=0)
    result = search(settings, options(tmp_path, "search"))
    paths = [space_of(SEARCH).draw(3, 10**9 + k) for k in range(3)]
    rows = {str(row["path"]): row["top1_error_percent"] for row in result["scored"]}
    assert rows.keys() == {str(path) for path in paths}
    for path in paths:
        assert rows[str(path)] == pytest.approx(rescored(tmp_path, path, 2, (64, 80)))
    assert result["architecture"]["path"] == result["scored"][0]["path"]


def test_defaults():
    """The settings behind the published numbers, typed a second time."""
    batches = {"workers": 4, "batch_size": 1024, "parts": 8, "crop": "resized", "pad": 4, "scale_min": 0.08,
               "flip": True, "erasing": 0.2}  # fmt: skip
    assert asdict(Search()) == {
        **batches, "recalibrate_batches": 8, "select_images": 5000, "method": "cream", "dataset": "imagenet",
        "train_images": 0, "holdout": 0, "subset_classes": 0, "subset_images": 350, "resolution": 224,
        "apply_resolution": False, "macs_min": 0.0, "macs_max": 600.0, "enforce_window": False, "resunit": False,
        "dil_conv": False, "pool": "avg", "sampling": "uniform", "probabilities": (0.05, 0.2, 0.05, 0.5, 0.05, 0.15),
        "epochs": 120, "lr": 1.0, "meta_lr": 1e-4, "lr_rule": "sane", "schedule_images": 0, "momentum": 0.9,
        "weight_decay": 1e-4, "label_smoothing": 0.1, "start_epoch": 20, "update_every": 0, "pool_size": 10,
        "acc_gap": 5.0, "slice": 4, "meta_value": "last_negated", "meta_gradient": "first", "meta_weights": "in_place",
        "step_sign": "plus", "pick": "meta", "stored": "teacher", "zero_grad": "zeros", "jitter": 0.4, "choose": "head",
        "candidates": 0,
    }  # fmt: skip
    recipe = {
        **batches, "epochs": 500, "cooldown": 10, "schedule": "auto", "lr": 0.064, "lr_min": 1e-5, "warmup_lr": 1e-6,
        "warmup_epochs": 3, "decay_epochs": 2.4, "decay_rate": 0.973, "optimizer_eps": 1e-3, "alpha": 0.9,
        "momentum": 0.9, "weight_decay": 1e-5, "dropout": 0.2, "ema_decay": 0.9999, "label_smoothing": 0.1,
        "randaugment": 9.0, "randaugment_operations": 2, "randaugment_std": 0.5, "eval_batch_size": 512,
        "interpolation": "bicubic",
    }  # fmt: skip
    one = {"arch": "", "single_block": "auto", "repeat_stage3": False}
    more = {"checkpoint": "", "dataset": "imagenet", "train_images": 0, "eval_every": 1, "resolution": 0}
    assert asdict(Train()) == {**recipe, **one, **more}
    study = {"recalibrate_batches": 8, "search": "", "paths": 30, "macs_min": 0.0, "macs_max": 0.0, "epochs": 100,
             "ema_decay": 0.99}  # fmt: skip
    assert asdict(RankStudy()) == {**recipe, **study}
    assert [Train(arch=name).schedule_of(name) for name in ("14", "43", "114", "287", "481", "604")] == (
        ["step"] * 2 + ["cosine"] * 4
    )
    paper = {"step_sign": "minus", "meta_value": "argmax_positive", "meta_gradient": "all", "meta_weights": "clean",
             "stored": "own"}  # fmt: skip
    modern = {"zero_grad": "none", "apply_resolution": True, "enforce_window": True, "choose": "rescore",
              "holdout": 10_000}  # fmt: skip
    assert (paper, {**paper, **modern}) == (PAPER_SEARCH, MODERN_SEARCH)
    assert GENERIC_TRAIN == {
        "lr": 1e-2, "optimizer_eps": 1e-2, "weight_decay": 1e-4, "schedule": "none", "epochs": 200, "dropout": 0.0,
        "ema_decay": 0.9998, "batch_size": 256, "parts": 2,
    }  # fmt: skip
