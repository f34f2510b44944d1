"""Picture transforms of search, retraining and test.

Boxes are drawn from a ``random.Random`` in the order of the original. torchvision's crop draws the same distribution
from torch's generator, which the stored boxes cannot be compared with; resizing and cropping are Pillow's, as in the
original (torchvision's on tensors antialiases differently).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from papers.cream.data.randaugment import RESAMPLES, RandAugment

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRIES = 10
Box = tuple[int, int, int, int]  # top, left, height, width


def crop_box(
    width: int, height: int, rng: random.Random, scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:  # fmt: skip
    """Random resized crop: area uniform, aspect ratio log-uniform, ten tries, else the largest central crop."""
    for _ in range(TRIES):
        area = rng.uniform(*scale) * (width * height)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if w <= width and h <= height:
            top = rng.randint(0, height - h)
            return top, rng.randint(0, width - w), h, w
    w, h = width, height
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return (height - h) // 2, (width - w) // 2, h, w


def erasing_box(height: int, width: int, rng: random.Random, probability: float = 0.2) -> Box | None:
    """Random erasing: one box with area 0.02 to 1/3 of the image and log-uniform ratio 0.3 to 1/0.3, or None."""
    if rng.random() > probability:
        return None
    for _ in range(TRIES):
        area = rng.uniform(0.02, 1 / 3) * (height * width)
        aspect = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if w < width and h < height:
            top = rng.randint(0, height - h)
            return top, rng.randint(0, width - w), h, w
    return None


@dataclass(frozen=True)
class Erasing:
    """Random erasing of normalised images, each box filled with per-pixel N(0, 1) ("pixel" mode)."""

    probability: float = 0.2

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        rng = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
        for image in batch:
            box = erasing_box(image.shape[1], image.shape[2], rng, self.probability)
            if box is not None:
                top, left, h, w = box
                noise = torch.randn(image.shape[0], h, w, generator=generator)
                image[:, top : top + h, left : left + w] = noise.to(image)
        return batch


@dataclass(frozen=True)
class TrainTransform:
    """Random resized crop (bilinear or bicubic at random), flip, colour jitter (search) or RandAugment (retrain).

    pad: instead of that crop, one of the picture's own size out of the picture with so many black pixels around it.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    jitter: float = 0.0  # brightness, contrast and saturation factors from 1 - jitter to 1 + jitter, in random order
    flip: bool = True
    augment: RandAugment | None = field(default=None)
    pad: int | None = None

    def __call__(self, picture: Image.Image, rng: random.Random) -> Image.Image:
        if self.pad is None:
            top, left, h, w = crop_box(*picture.size, rng, self.scale)
            resample = rng.choice(list(RESAMPLES.values()))
            picture = picture.crop((left, top, left + w, top + h)).resize((self.size, self.size), resample)
        else:
            left, top = rng.randint(-self.pad, self.pad), rng.randint(-self.pad, self.pad)
            picture = picture.crop((left, top, left + picture.width, top + picture.height))  # black outside
        if self.flip and rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.jitter:
            picture = colour_jitter(picture, self.jitter, rng)
        return self.augment(picture, rng) if self.augment else picture


def colour_jitter(picture: Image.Image, strength: float, rng: random.Random) -> Image.Image:
    """Brightness, contrast and saturation by factors uniform in 1 -+ strength, in random order (no hue)."""
    kinds: list[Callable[[Image.Image], ImageEnhance._Enhance]] = [
        ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color,
    ]  # fmt: skip
    rng.shuffle(kinds)
    for kind in kinds:
        picture = kind(picture).enhance(rng.uniform(1 - strength, 1 + strength))
    return picture


@dataclass(frozen=True)
class TestTransform:
    """Resize the short side to floor(size / 0.875), crop the centre."""

    __test__ = False

    size: int = 224
    interpolation: str = "bicubic"

    def __call__(self, picture: Image.Image, rng: random.Random | None = None) -> Image.Image:
        short = int(self.size / 0.875)
        width, height = picture.size
        if width <= height:
            target = (short, int(short * height / width))
        else:
            target = (int(short * width / height), short)
        picture = picture.resize(target, RESAMPLES[self.interpolation])
        left, top = round((target[0] - self.size) / 2), round((target[1] - self.size) / 2)
        return picture.crop((left, top, left + self.size, top + self.size))
