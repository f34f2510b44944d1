"""Small sets: which sizes fit them, all said at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.errors import UserError

HELD = 5  # a part that is held out of a small set is a fifth of it


def fitting_batch(images: int, asked: int) -> int:
    """The batch size that is asked for where there are as many images, else about the largest power of two that
    gives two batches; never one that leaves a last batch of a single image, which has no statistics.
    """
    if asked <= images:
        return asked
    batch = max(2, 1 << max(0, (images // 2).bit_length() - 1))
    while batch > 2 and images % batch == 1:
        batch -= 1
    return images if images % batch == 1 else min(batch, images)


def fitting_part(images: int, classes: int, asked: int) -> int:
    """The size of a part that is asked for where every class fits into it and into the rest, else a fifth of the
    images, as many of every class (0 stays 0).
    """
    if not asked or classes <= asked <= images - classes:
        return asked
    return max(classes, images // HELD // classes * classes)


def refuse_sizes(name: str, images: int, classes: int, settings: Any, fits: Mapping[str, Any]) -> None:
    """Raise UserError where settings are not what fits, with every one that must be changed and its value.

    fits: setting -> a value that fits, the present one where it does.
    """
    changes = {key: value for key, value in fits.items() if getattr(settings, key) != value}
    if changes:
        flags = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in changes.items())
        raise UserError(
            f"{name}: {images} training images of {classes} classes are too few for the present sizes; use {flags}"
        )
