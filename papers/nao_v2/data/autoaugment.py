"""AutoAugment, CIFAR-10 policy (25 sub-policies of two operations), on PIL images; an option of training.

Operation magnitudes are linear in the index 0 .. 9. Rotation is always in the positive direction; posterise, solarise,
autocontrast, equalise and invert have no sign; the others draw a random sign. Fill is grey 128.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

FILL = (128, 128, 128)
RANGES = {
    "shearX": (0.0, 0.3), "shearY": (0.0, 0.3), "translateX": (0.0, 150 / 331), "translateY": (0.0, 150 / 331),
    "rotate": (0.0, 30.0), "color": (0.0, 0.9), "posterize": (8.0, 4.0), "solarize": (256.0, 0.0),
    "contrast": (0.0, 0.9), "sharpness": (0.0, 0.9), "brightness": (0.0, 0.9), "autocontrast": (0.0, 0.0),
    "equalize": (0.0, 0.0), "invert": (0.0, 0.0),
}  # fmt: skip
SIGNED = ("shearX", "shearY", "translateX", "translateY", "color", "contrast", "sharpness", "brightness")
POLICY: tuple[tuple[float, str, int, float, str, int], ...] = (
    (0.1, "invert", 7, 0.2, "contrast", 6), (0.7, "rotate", 2, 0.3, "translateX", 9),
    (0.8, "sharpness", 1, 0.9, "sharpness", 3), (0.5, "shearY", 8, 0.7, "translateY", 9),
    (0.5, "autocontrast", 8, 0.9, "equalize", 2), (0.2, "shearY", 7, 0.3, "posterize", 7),
    (0.4, "color", 3, 0.6, "brightness", 7), (0.3, "sharpness", 9, 0.7, "brightness", 9),
    (0.6, "equalize", 5, 0.5, "equalize", 1), (0.6, "contrast", 7, 0.6, "sharpness", 5),
    (0.7, "color", 7, 0.5, "translateX", 8), (0.3, "equalize", 7, 0.4, "autocontrast", 8),
    (0.4, "translateY", 3, 0.2, "sharpness", 6), (0.9, "brightness", 6, 0.2, "color", 8),
    (0.5, "solarize", 2, 0.0, "invert", 3), (0.2, "equalize", 0, 0.6, "autocontrast", 0),
    (0.2, "equalize", 8, 0.8, "equalize", 4), (0.9, "color", 9, 0.6, "equalize", 6),
    (0.8, "autocontrast", 4, 0.2, "solarize", 8), (0.1, "brightness", 3, 0.7, "color", 0),
    (0.4, "solarize", 5, 0.9, "autocontrast", 3), (0.9, "translateY", 9, 0.7, "translateY", 9),
    (0.9, "autocontrast", 2, 0.8, "solarize", 3), (0.8, "equalize", 8, 0.1, "invert", 3),
    (0.7, "translateY", 9, 0.9, "autocontrast", 1),
)  # fmt: skip


def magnitude(name: str, index: int) -> float:
    """Value of a magnitude index."""
    low, high = RANGES[name]
    return low + (high - low) * index / 9


def operate(image: Image.Image, name: str, index: int, sign: int) -> Image.Image:
    """One operation on an RGB image; ``sign`` +1 or -1 (ignored where the operation has none)."""
    m = magnitude(name, index)
    signed = m * sign
    if name in ("shearX", "shearY"):
        matrix = (1, signed, 0, 0, 1, 0) if name == "shearX" else (1, 0, 0, signed, 1, 0)
        return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=FILL)
    if name in ("translateX", "translateY"):
        x, y = (signed * image.size[0], 0) if name == "translateX" else (0, signed * image.size[1])
        return image.transform(image.size, Image.Transform.AFFINE, (1, 0, x, 0, 1, y), fillcolor=FILL)
    if name == "rotate":
        turned = image.convert("RGBA").rotate(m)
        return Image.composite(turned, Image.new("RGBA", turned.size, (128,) * 4), turned).convert(image.mode)
    enhancers = {
        "color": ImageEnhance.Color, "contrast": ImageEnhance.Contrast,
        "sharpness": ImageEnhance.Sharpness, "brightness": ImageEnhance.Brightness,
    }  # fmt: skip
    if name in enhancers:
        return enhancers[name](image).enhance(1 + signed)
    if name == "posterize":
        return ImageOps.posterize(image, round(m))
    if name == "solarize":
        return ImageOps.solarize(image, m)  # type: ignore[arg-type]
    plain: dict[str, Callable[[Image.Image], Image.Image]] = {
        "autocontrast": ImageOps.autocontrast, "equalize": ImageOps.equalize, "invert": ImageOps.invert,
    }  # fmt: skip
    return plain[name](image)


Choice = list[tuple[str, int, int]]


def choose(rng: np.random.RandomState) -> Choice:
    """A random sub-policy: those of its two operations that take place, each as (name, magnitude index, sign)."""
    p1, name1, index1, p2, name2, index2 = POLICY[rng.randint(len(POLICY))]
    return [
        (name, index, 1 if rng.rand() < 0.5 else -1)
        for p, name, index in ((p1, name1, index1), (p2, name2, index2))
        if rng.rand() < p
    ]


def augment_batch(pixels: torch.Tensor, choices: list[Choice]) -> torch.Tensor:
    """The chosen operations on each of uint8 [B, 3, H, W]."""
    if not choices:
        return pixels
    out = []
    for array, choice in zip(pixels.permute(0, 2, 3, 1).cpu().numpy(), choices, strict=True):
        image = Image.fromarray(array)
        for name, index, sign in choice:
            image = operate(image, name, index, sign)
        out.append(np.asarray(image))
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).to(pixels.device)
