"""Training from scratch: data, recipes, what is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from common.cli.verbs import RunOptions
from common.data.sets import Images
from common.train.loop import Metrics
from common.weights.read import read_metadata
from papers.nao_v2 import train as train_module
from papers.nao_v2.data.sets import train_batches
from papers.nao_v2.method.stand_alone import Recipe
from papers.nao_v2.settings import Train


def images(count: int = 6):
    pixels = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (count, 3, 32, 32)).astype(np.uint8))
    return Images(pixels, torch.zeros(count, dtype=torch.int64), ("a",), "cifar10", True, {})


def first_batch(cutout: int, autoaugment: bool, epoch: int = 0) -> torch.Tensor:
    batches = train_batches(images(), 6, 3, "train", cutout=cutout, autoaugment=autoaugment)
    return next(iter(batches.epoch(epoch)))[0]


def test_cutout_and_autoaugment_batches():
    plain, cut = first_batch(0, False), first_batch(16, False)
    gone = (cut == 0).all(1)
    assert torch.equal(plain[:, 0][~gone], cut[:, 0][~gone])  # elsewhere the same pictures
    for mask in gone:  # one rectangle of at most 16 x 16 per picture, clipped at the border
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert 8 <= len(rows) <= 16 and 8 <= len(columns) <= 16 and int(mask.sum()) == len(rows) * len(columns)
    augmented = first_batch(16, True)
    assert torch.equal(augmented, first_batch(16, True)) and not torch.equal(augmented, first_batch(16, True, 1))
    assert not torch.equal(augmented, cut)
    assert torch.equal((augmented == 0).all(1), gone)  # AutoAugment comes between flip and cutout
    assert augmented.shape == plain.shape


def test_exponential_steps_every_few_epochs():
    recipe = Recipe(schedule="exponential", lr=0.1, decay_rate=0.5, decay_epochs=3)
    assert [recipe.rate(e) for e in (0, 2, 3, 8)] == pytest.approx([0.1, 0.1, 0.05, 0.025])


def test_the_last_weights_are_kept_beside_the_best(tmp_path, monkeypatch):
    """Two epochs that test alike, the first is the best: both files hold what was tested, and say of which epoch."""
    errors = iter((10.0, 10.0))
    monkeypatch.setattr(train_module, "evaluate", lambda *a: Metrics(1.0, next(errors), 5.0, 7))
    options = RunOptions(out=tmp_path, device="cpu", paper="nao_v2", section="train")
    c = Train(dataset="digits", layers=1, channels=2, epochs=2, train_images=64, batch_size=64, auxiliary=False)
    metrics = train_module.train(c, options)["metrics"]
    assert (metrics["top1_error_percent"], metrics["last_top1_error_percent"], metrics["best_epoch"]) == (10.0, 10.0, 0)
    best, last = tmp_path / "weights.safetensors", tmp_path / "weights_last.safetensors"
    assert (read_metadata(best)["epoch"], read_metadata(last)["epoch"]) == (0, 1)
    key = "stem.1.num_batches_tracked"
    assert (int(load_file(best)[key]), int(load_file(last)[key])) == (1, 2)
