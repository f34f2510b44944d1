"""Decoding one picture file to RGB."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from common.errors import UserError

MOST_PIXELS = 10**8  # of a picture; Pillow itself refuses from about twice as many
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}


def decode(content: bytes, path: Path | str) -> Image.Image:
    """An RGB picture of 8 bits from a file's bytes; of several frames or pages the first.

    Grey pictures of 16 bits keep their upper 8, as Pillow does with colour ones of 16 bits. Raises UserError when the
    file cannot be decoded, or holds values that have no known white.
    """
    if not content:
        raise UserError(f"{path} is an empty file; replace or remove it")
    try:
        picture: Image.Image = Image.open(io.BytesIO(content))
        if picture.width * picture.height > MOST_PIXELS:
            raise UserError(f"{path} says it has {picture.width} x {picture.height} pixels; replace or remove it")
        if picture.mode[0] in "IF":  # one channel of more than 8 bits
            picture = _eight_bits(picture, path)
        return picture.convert("RGB")
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a damaged file raises nearly anything; every case means the same to the user
        raise UserError(f"{path} cannot be decoded: {reason_of(error)}; replace or remove it") from None


def reason_of(error: Exception) -> str:
    """What a decoder complains of, without the name of an object in memory."""
    if isinstance(error, UnidentifiedImageError):
        return "its content is no picture of a known kind"
    return " ".join(str(error).split()) or type(error).__name__


def _eight_bits(picture: Image.Image, path: Path | str) -> Image.Image:
    """A grey picture of 16 bits, which ``convert`` would clip to white, as one of 8 bits. Raises UserError."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        return Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    raise UserError(f"{path} holds grey values ({picture.mode}) of which nobody says what is white; save 8 or 16 bits")


def resize_square(picture: Image.Image, size: int) -> Image.Image:
    """A picture as size x size: block averages where the size divides both sides, else bilinear with antialiasing."""
    if picture.size == (size, size):
        return picture
    divides = picture.width % size == 0 and picture.height % size == 0
    return picture.resize((size, size), Image.Resampling.BOX if divides else Image.Resampling.BILINEAR)
