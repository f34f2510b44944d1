"""Which epoch a trained network reports: CIFAR files hold the last, ImageNet files the best one."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from common.spaces.darts import train as trainer
from common.train.loop import Metrics
from papers.nsas import train as module
from papers.nsas.__main__ import TRAIN
from tests.nsas.small import TRAIN_CNN, options

ERRORS = [
    50.0,
    30.0,
    30.0,
    40.0,
    30.0,
]  # epochs; the second is the best, also later; then of the kept weights


@pytest.fixture
def scripted(monkeypatch):
    """Errors of the test passes; the numbers of the epochs whose weights are written."""
    left, seen, saved = list(ERRORS), [], []

    def errors(model, *_):
        seen.append(model.classifier.bias.tolist())
        return Metrics(1.0, left.pop(0), 0.0, 1)

    monkeypatch.setattr(trainer, "evaluate", errors)
    monkeypatch.setattr(
        trainer, "save_weights", lambda model, *_, **__: saved.append(seen.index(model.classifier.bias.tolist()))
    )
    return saved


@pytest.fixture
def imagenet(tmp_path):
    """Four training and two test pictures of two classes, large enough for the ImageNet network."""
    draw, root = np.random.RandomState(0), tmp_path / "flowers"
    for split, count in (("train", 2), ("val", 1)):
        for label in "ab":
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = (255 * draw.rand(130, 150, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{number}.png")
    return str(root)


def test_cifar_keeps_the_last_epoch_and_reports_the_best(scripted, tmp_path):
    metrics = module.train(replace(TRAIN_CNN, epochs=4, eval_every=1), options(tmp_path / "run", "train"))["metrics"]
    assert metrics["top1_error_percent"] == 40.0
    assert (metrics["best_top1_error_percent"], metrics["best_epoch"]) == (30.0, 1)
    assert scripted == [3]


def test_epochs_without_a_test_have_no_error_in_the_history(scripted, tmp_path):
    module.train(replace(TRAIN_CNN, epochs=5, eval_every=2), options(tmp_path / "run", "train"))
    rows = csv.DictReader((tmp_path / "run" / "history.csv").open())
    assert [row["test_top1_error_percent"] for row in rows] == ["", str(ERRORS[0]), "", str(ERRORS[1]), str(ERRORS[2])]


def test_imagenet_keeps_the_best_epoch(scripted, imagenet, tmp_path):
    recipe = TRAIN[("darts",)].variants["imagenet-step"]
    settings = replace(
        TRAIN_CNN, **{**recipe, "dataset": imagenet, "train_images": 0, "channels": 2, "layers": 3, "epochs": 4,
        "batch_size": 2, "eval_batch_size": 2, "workers": 0, "eval_every": 1},
    )  # fmt: skip
    metrics = module.train(settings, options(tmp_path / "run", "train", allow_unpinned=True))["metrics"]
    assert metrics["top1_error_percent"] == 40.0
    assert (metrics["best_top1_error_percent"], metrics["best_epoch"]) == (30.0, 1)
    assert scripted == [1]


def test_claims_of_best_epochs_are_compared_with_the_best_epoch():
    """16.69, 25.5 and 24.68 are best epochs; so are the numbers of the comparison logs."""
    claims = yaml.safe_load((Path(module.__file__).parents[2] / "reproductions/claims/nsas.yaml").read_text())
    trained = {c["id"]: c for c in claims if c["id"].endswith(".trained")}
    best = {name for name, claim in trained.items() if claim.get("metric") == "best_top1_error_percent"}
    said = {name for name, claim in trained.items() if "best" in claim["source"] or "at epoch" in claim["source"]}
    assert best == said and len(best) == 7
    assert {trained[name]["value"] for name in best} >= {16.69, 25.5, 24.68, 2.61}
