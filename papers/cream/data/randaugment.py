"""RandAugment as used for Cream's retraining: 15 operations with timm's magnitudes.

torchvision's RandAugment has other operations, ranges and a probability of 1, so it does not match; the operations
here are Pillow's own.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image, ImageEnhance, ImageOps

FILL = (124, 116, 104)  # the ImageNet mean in bytes
RESAMPLES = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
Picture = Image.Image


def _affine(picture: Picture, matrix: tuple[float, ...], resample: Image.Resampling) -> Picture:
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, resample, fillcolor=FILL)


def _solarize_add(picture: Picture, amount: int) -> Picture:
    """Add to the values below 128, clipped at 255."""
    table = [min(255, value + amount) if value < 128 else value for value in range(256)]
    return picture.point(table * 3)


def _posterize(picture: Picture, bits: int) -> Picture:
    """Keep the highest bits of a value; none at all gives black, as in the Pillow of the original (today's refuses)."""
    return ImageOps.posterize(picture, bits) if bits else picture.point([0] * 256 * 3)


def _enhance(kind: type) -> Callable[[Picture, float, Image.Resampling], Picture]:
    return lambda picture, value, _: kind(picture).enhance(value)


PICTURE_OPERATIONS: dict[str, Callable[[Picture, float, Image.Resampling], Picture]] = {
    "AutoContrast": lambda p, v, r: ImageOps.autocontrast(p),
    "Equalize": lambda p, v, r: ImageOps.equalize(p),
    "Invert": lambda p, v, r: ImageOps.invert(p),
    "Rotate": lambda p, v, r: p.rotate(v, resample=r, fillcolor=FILL),
    "Posterize": lambda p, v, r: p if v >= 8 else _posterize(p, int(v)),
    "Solarize": lambda p, v, r: ImageOps.solarize(p, int(v)),
    "SolarizeAdd": lambda p, v, r: _solarize_add(p, int(v)),
    "Color": _enhance(ImageEnhance.Color),
    "Contrast": _enhance(ImageEnhance.Contrast),
    "Brightness": _enhance(ImageEnhance.Brightness),
    "Sharpness": _enhance(ImageEnhance.Sharpness),
    "ShearX": lambda p, v, r: _affine(p, (1, v, 0, 0, 1, 0), r),
    "ShearY": lambda p, v, r: _affine(p, (1, 0, 0, v, 1, 0), r),
    "TranslateXRel": lambda p, v, r: _affine(p, (1, 0, v * p.size[0], 0, 1, 0), r),
    "TranslateYRel": lambda p, v, r: _affine(p, (1, 0, 0, 0, 1, v * p.size[1]), r),
}
MAX_LEVEL = 10.0
SIGNED = {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3, "TranslateXRel": 0.45, "TranslateYRel": 0.45}  # at that level
WHOLE = {"Posterize": 4, "Solarize": 256, "SolarizeAdd": 110}
ENHANCING = ("Color", "Contrast", "Brightness", "Sharpness")


def argument(operation: str, level: float, negative: bool) -> float:
    """The argument of an operation at a level in 0..10 (0 for those without one).

    Divided by the greatest level first and then multiplied, as timm does: the other order rounds differently, and a
    translation by 10^-15 pixels more or less is another picture.
    """
    share = level / MAX_LEVEL
    if operation in SIGNED:
        return -(share * SIGNED[operation]) if negative else share * SIGNED[operation]
    if operation in ENHANCING:
        return share * 1.8 + 0.1
    return float(int(share * WHOLE.get(operation, 0)))


class RandAugment:
    """Two random operations per picture, each applied with probability 0.5 at level clip(N(magnitude, std), 0, 10)."""

    def __init__(self, magnitude: float = 9.0, operations: int = 2, std: float = 0.5, probability: float = 0.5) -> None:
        self.magnitude, self.operations, self.std, self.probability = magnitude, operations, std, probability

    def __call__(self, picture: Picture, rng: random.Random) -> Picture:
        for name in rng.choices(list(PICTURE_OPERATIONS), k=self.operations):
            if rng.random() > self.probability:
                continue
            level = min(MAX_LEVEL, max(0.0, rng.gauss(self.magnitude, self.std)))
            value = argument(name, level, rng.random() > 0.5)
            picture = PICTURE_OPERATIONS[name](picture, value, rng.choice(list(RESAMPLES.values())))
        return picture
