"""The two parts of a search: sizes, classes, augmentation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.augment import Augmentation
from common.data.sets import Images
from common.errors import UserError
from papers.evnas.data import augmentation, open_search_data
from papers.evnas.settings import SearchDARTS, SearchNB201
from tests.evnas.small import DARTS_SEARCH, NB201_SEARCH, change, options


def test_halves_of_the_training_set(tmp_path):
    whole = change(DARTS_SEARCH, train_images=0, fitness_images=0)
    data = open_search_data(whole, options(tmp_path))
    assert len(data.train) == len(data.fitness) == 2000 and data.origin == "index"
    assert open_search_data(change(NB201_SEARCH, train_images=0), options(tmp_path)).origin == "fallback"


@pytest.mark.parametrize("settings", [DARTS_SEARCH, NB201_SEARCH, change(DARTS_SEARCH, split="random")])
def test_both_parts_of_a_set_sorted_by_class_hold_every_class(settings, tmp_path):
    for name in "abcd":
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(10):
            pixels = np.random.RandomState(i).randint(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{i}.png")
    whole = change(settings, dataset=f"{tmp_path / 'set'}@8", train_images=0, fitness_images=0)
    for limits in ({}, {"train_images": 8, "fitness_images": 8}):
        for part in open_search_data(change(whole, **limits), options(tmp_path))[:2]:
            counts = torch.bincount(part.labels, minlength=4)
            assert counts.min() >= counts.max() - 1 and counts.min() > 0
    with pytest.raises(UserError, match="--fitness-images"):
        open_search_data(change(whole, fitness_images=3), options(tmp_path))


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
