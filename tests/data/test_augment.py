"""Batched augmentation: against stored outputs of the published transforms, and statistically against torchvision's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy
import torch
from PIL import Image

from common.data.augment import Augmentation, Draws, apply, cutout_mask, draw, plain, transform
from common.data.pictures import vision
from common.errors import UserError

DATA = Path(__file__).parent / "data"
MEAN, STD = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
FULL = Augmentation(MEAN, STD, pad=4, flip=True, cutout=16)


def one(*values: int) -> list[torch.Tensor]:
    return [torch.tensor([value]) for value in values]


def draws(top: int, left: int, flip: int, y: int = 0, x: int = 0) -> Draws:
    top_, left_, flip_, y_, x_ = one(top, left, flip, y, x)
    return Draws(top_, left_, flip_.bool(), y_, x_)


def test_published_cifar_transform_exactly():
    with np.load(DATA / "cifar_transform.npz") as golden:
        image = torch.from_numpy(golden["image"]).permute(2, 0, 1)[None]
        top, left, flip, y, x = (int(v) for v in golden["train_crop_top_left_flip_cutout_y_x"])
        train, test = torch.from_numpy(golden["train_tensor"]), torch.from_numpy(golden["eval_tensor"])
    assert torch.equal(plain(image, FULL)[0], test)
    assert torch.equal(transform(image, FULL, draws(top, left, flip, y, x))[0], train)


def test_cutout_boxes_of_the_published_code():
    cases = json.loads((DATA / "cutout_boxes.json").read_text())
    assert len(cases) == 24
    for case in cases:
        length = case["length"] if isinstance(case["length"], int) else 1
        mask = cutout_mask(*one(case["y"], case["x"]), case["height"], case["width"], length)[0, 0]
        expected = torch.ones(case["height"], case["width"])
        if case["zeroed_box_y0y1x0x1"] is not None:
            y0, y1, x0, x1 = case["zeroed_box_y0y1x0x1"]
            expected[y0:y1, x0:x1] = 0
        assert torch.equal(mask, expected)


@pytest.mark.parametrize("order", ["crop_flip", "flip_crop"])
def test_every_crop_and_flip_equals_torchvision(order):
    functional = vision.functional()
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    augmentation = Augmentation(MEAN, STD, pad=2, flip=True, order=order)
    for top in range(5):
        for left in range(5):
            for flip in (0, 1):
                picture = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
                if flip and order == "flip_crop":
                    picture = functional.hflip(picture)
                picture = functional.crop(functional.pad(picture, 2), top, left, 16, 16)
                if flip and order == "crop_flip":
                    picture = functional.hflip(picture)
                expected = functional.normalize(functional.to_tensor(picture), MEAN, STD)
                assert torch.equal(transform(pixels, augmentation, draws(top, left, flip))[0], expected)


def test_offsets_flips_and_centres_are_uniform():
    drawn = draw(FULL, 40_000, 32, 32, torch.Generator().manual_seed(0))
    flips = drawn.flip.long()
    for values, cells in ((drawn.top, 9), (drawn.left, 9), (flips, 2), (drawn.cut_y, 32), (drawn.cut_x, 32)):
        assert scipy.stats.chisquare(torch.bincount(values, minlength=cells).numpy()).pvalue > 1e-4
    pairs = torch.bincount(drawn.top * 9 + drawn.left, minlength=81).numpy()
    assert scipy.stats.chisquare(pairs).pvalue > 1e-4  # the draws are independent of each other, too
    assert not draw(Augmentation(MEAN, STD, pad=4), 100, 32, 32, torch.Generator()).flip.any()


def test_same_distribution_as_torchvision():
    """Mean and variance of every pixel over many augmentations of one image agree with torchvision's."""
    transforms = vision.transforms()
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    reference = transforms.Compose([
        transforms.RandomCrop(8, padding=2), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ])  # fmt: skip
    count = 3000
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    theirs = torch.stack([reference(picture) for _ in range(count)])
    ours = apply(
        image.expand(count, -1, -1, -1), Augmentation(MEAN, STD, pad=2, flip=True), torch.Generator().manual_seed(1)
    )
    error = (theirs.var(0) / count + ours.var(0) / count).sqrt()
    z = (theirs.mean(0) - ours.mean(0)) / error
    assert z.abs().max() < 5 and 0.7 < z.std() < 1.3
    assert ((theirs.std(0) - ours.std(0)).abs() / theirs.std(0)).max() < 0.1


def test_explicit_generator_decides_everything():
    pixels = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    before = torch.get_rng_state()
    first = apply(pixels, FULL, torch.Generator().manual_seed(5))
    assert torch.equal(first, apply(pixels, FULL, torch.Generator().manual_seed(5)))
    assert not torch.equal(first, apply(pixels, FULL, torch.Generator().manual_seed(6)))
    assert torch.equal(before, torch.get_rng_state())
    assert first.is_contiguous(memory_format=torch.channels_last) and first.dtype == torch.float32


def test_without_augmentation_it_is_the_plain_transform():
    pixels = torch.randint(0, 256, (4, 3, 9, 9), dtype=torch.uint8)
    none = Augmentation(MEAN, STD, cutout=1)  # a cutout of side 1 removes nothing, as in the published search
    assert torch.equal(apply(pixels, none, torch.Generator()), plain(pixels, none))


def test_mistakes():
    with pytest.raises(UserError, match="unknown augmentation order"):
        Augmentation(MEAN, STD, order="crop")
    with pytest.raises(UserError, match="must not be negative"):
        Augmentation(MEAN, STD, pad=-1)


def test_digits_are_shifted_a_little_and_never_mirrored():
    made = Augmentation((0.5,) * 3, (0.5,) * 3, pad=4, flip=True, cutout=8)
    assert made.on("cifar10") == made
    assert made.on("digits") == Augmentation((0.5,) * 3, (0.5,) * 3, pad=2, cutout=8)
