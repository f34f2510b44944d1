"""Augmentation of a whole batch at once: crop, flip, normalise, cutout, all from one explicit generator.

What is drawn (crop offset, flip, cutout centre) is separated from what is done with it, so that the second can be
checked against stored draws. Constants and order belong to the paper and are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch.nn import functional

from common.data.names import canonical
from common.errors import UserError
from common.run.device import onto

ORDERS = ("crop_flip", "flip_crop")


@dataclass(frozen=True)
class Normalisation:
    """What every picture goes through at the end: (pixel / 255 - mean) / std, then ``erase`` where there is one.

    mean, std: per channel on the 0..1 scale. erase: random erasing or the like, ``(float32 [1, 3, H, W], generator) ->
    the same shape``.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    erase: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Augmentation(Normalisation):
    """pad: zero pixels around the image before the random crop (0: no crop).

    flip: mirror with probability 1/2. cutout: side of the square set to zero after normalisation (0 or 1: none).
    order: whether the crop or the flip comes first (the distribution is the same, single outcomes are not).
    """

    pad: int = 0
    flip: bool = False
    cutout: int = 0
    order: str = "crop_flip"

    def on(self, name: str) -> Augmentation:
        """What the pictures of a set bear of it: digits are shifted by two pixels at most and never mirrored."""
        return replace(self, pad=min(self.pad, 2), flip=False) if canonical(name) == "digits" else self

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise UserError(f"unknown augmentation order {self.order!r}; use {' or '.join(ORDERS)}")
        if self.pad < 0 or self.cutout < 0:
            raise UserError("pad and cutout must not be negative")


@dataclass(frozen=True)
class Draws:
    """The random choices for a batch, int64 [B] each (flip: bool [B]).

    top, left: corner of the crop in the padded image (``pad`` is the unmoved position); cut_y, cut_x: cutout centres.
    """

    top: torch.Tensor
    left: torch.Tensor
    flip: torch.Tensor
    cut_y: torch.Tensor
    cut_x: torch.Tensor

    def part(self, places: slice) -> Draws:
        """The choices for some places of the batch."""
        return Draws(self.top[places], self.left[places], self.flip[places], self.cut_y[places], self.cut_x[places])


def draw(augmentation: Augmentation, batch: int, height: int, width: int, generator: torch.Generator) -> Draws:
    """Draw crop corners uniform on 0..2 pad, flips with probability 1/2, cutout centres uniform over the pixels."""
    device = generator.device

    def below(high: int) -> torch.Tensor:
        return torch.randint(high, (batch,), generator=generator, device=device)

    span = 2 * augmentation.pad + 1
    return Draws(below(span), below(span), below(2).bool() & augmentation.flip, below(height), below(width))


def normalise(pixels: torch.Tensor, constants: Normalisation) -> torch.Tensor:
    """uint8 [B, 3, H, W] -> float32 (pixel / 255 - mean) / std, bit-equal to torchvision's ToTensor and Normalize."""
    both = onto(pixels.device, torch.tensor([constants.mean, constants.std], dtype=torch.float32))
    mean, std = both.view(2, -1, 1, 1)
    return pixels.float().div_(255).sub_(mean).div_(std)


def plain(pixels: torch.Tensor, constants: Normalisation) -> torch.Tensor:
    """The test transform: normalisation alone, channels last in memory."""
    return normalise(pixels, constants).contiguous(memory_format=torch.channels_last)


def transform(pixels: torch.Tensor, augmentation: Augmentation, draws: Draws) -> torch.Tensor:
    """Apply given draws to uint8 [B, 3, H, W]; returns float32 of the same shape, channels last in memory."""
    device = pixels.device
    height, width = pixels.shape[-2:]
    pad = augmentation.pad
    rows = torch.arange(height, device=device) - pad + onto(device, draws.top)[:, None]  # [B, H] source rows
    columns = torch.arange(width, device=device) - pad + onto(device, draws.left)[:, None]  # [B, W] source columns
    flip = onto(device, draws.flip)[:, None]
    if augmentation.order == "crop_flip":  # the flip mirrors the cropped window
        columns = torch.where(flip, columns.flip(1), columns)
    else:  # the flip mirrors the whole image, the window then stands where it was drawn
        columns = torch.where(flip, width - 1 - columns, columns)
    moved = _gather(pixels, rows, columns, pad) if pad or augmentation.flip else pixels
    out = normalise(moved, augmentation)
    if augmentation.cutout // 2:
        cut_y, cut_x = onto(device, draws.cut_y), onto(device, draws.cut_x)
        out.mul_(cutout_mask(cut_y, cut_x, height, width, augmentation.cutout))
    return out.contiguous(memory_format=torch.channels_last)


def _gather(pixels: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, pad: int) -> torch.Tensor:
    """Pixels [B, C, H, W] at source rows [B, H] and columns [B, W], which run from -pad to H + pad - 1 (outside:
    black).

    Whole rows are picked first, then columns within them: about five times faster than one two-dimensional gather.
    """
    batch, channels, height, width = pixels.shape
    padded = functional.pad(pixels, (pad,) * 4) if pad else pixels.contiguous()
    tall, wide = height + 2 * pad, width + 2 * pad
    plane = torch.arange(batch * channels, device=pixels.device).view(batch, channels, 1) * tall
    picked = padded.view(batch * channels * tall, wide).index_select(0, (plane + (rows + pad)[:, None, :]).view(-1))
    index = (columns + pad)[:, None, None, :].expand(batch, channels, height, width)
    return picked.view(batch, channels, height, wide).gather(3, index)


def cutout_mask(cut_y: torch.Tensor, cut_x: torch.Tensor, height: int, width: int, length: int) -> torch.Tensor:
    """float32 [B, 1, H, W], zero in the box [y - length // 2, y + length // 2) x [x - …, x + …), clipped at the
    border.
    """
    half = length // 2
    rows = torch.arange(height, device=cut_y.device)
    columns = torch.arange(width, device=cut_x.device)
    in_rows = (rows >= cut_y[:, None] - half) & (rows < cut_y[:, None] + half)
    in_columns = (columns >= cut_x[:, None] - half) & (columns < cut_x[:, None] + half)
    return (~(in_rows[:, :, None] & in_columns[:, None, :])).float().unsqueeze(1)


def apply(pixels: torch.Tensor, augmentation: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Augment uint8 [B, 3, H, W] with fresh draws: float32, normalised, channels last."""
    batch, _, height, width = pixels.shape
    return transform(pixels, augmentation, draw(augmentation, batch, height, width, generator))
