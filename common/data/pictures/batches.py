"""Pictures of ImageNet's size: read from class folders or an LMDB, transformed by PIL in loader workers.

What an item looks like is a function of (seed, stream, epoch, position): results do not depend on the number of
workers, and an epoch can be entered at any batch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from common.data.augment import Normalisation, plain
from common.data.batches import Epochs, Order
from common.data.pictures import vision
from common.data.pictures.sets import IMAGENET_COUNTS as IMAGENET_COUNTS
from common.data.pictures.sets import Pictures as Pictures
from common.data.pictures.sets import open_pictures as open_pictures
from common.errors import UserError
from common.run.distributed import Sharing

INTERPOLATIONS = ("bilinear", "bicubic", "random")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = Normalisation(IMAGENET_MEAN, IMAGENET_STD)


@dataclass(frozen=True)
class TrainPictures:
    """Random resized crop, flip, colour jitter, then ``extra(picture, rng)`` where given (such as RandAugment).

    size: side of the result. scale, ratio: of the crop. interpolation: bilinear, bicubic, or random (either, per
    picture). jitter: brightness, contrast, saturation, hue. ``resize`` > 0: resize the shorter side to it and crop
    ``size`` at a random place instead of the random resized crop.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    flip: bool = True
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    resize: int = 0
    extra: Callable[[Image.Image, random.Random], Image.Image] | None = None

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise UserError(f"unknown interpolation {self.interpolation!r}; use {', '.join(INTERPOLATIONS)}")

    def __call__(self, picture: Image.Image, rng: random.Random) -> Image.Image:
        transforms, functional = vision.transforms(), vision.functional()
        name = rng.choice(("bilinear", "bicubic")) if self.interpolation == "random" else self.interpolation
        mode = transforms.InterpolationMode(name)
        if self.resize:
            picture = functional.resize(picture, self.resize, mode)
            corner = transforms.RandomCrop.get_params(picture, (self.size, self.size))
            picture = functional.crop(picture, *corner)
        else:
            box = transforms.RandomResizedCrop.get_params(picture, list(self.scale), list(self.ratio))
            picture = functional.resized_crop(picture, *box, [self.size, self.size], mode)
        if self.flip and rng.random() < 0.5:
            picture = functional.hflip(picture)
        if any(self.jitter):
            picture = transforms.ColorJitter(*self.jitter)(picture)
        return self.extra(picture, rng) if self.extra else picture


@dataclass(frozen=True)
class EvalPictures:
    """Resize the shorter side, crop the centre."""

    resize: int = 256
    size: int = 224
    interpolation: str = "bilinear"

    def __call__(self, picture: Image.Image, rng: random.Random) -> Image.Image:
        transforms, functional = vision.transforms(), vision.functional()
        mode = transforms.InterpolationMode(self.interpolation)
        return functional.center_crop(functional.resize(picture, self.resize, mode), [self.size, self.size])


class _Items(torch.utils.data.Dataset):
    """The items of one epoch: (uint8 [3, H, W], label), each from its own random streams."""

    def __init__(self, pictures: Pictures, transform: Any, order: Order, epoch: int) -> None:
        self.pictures, self.transform, self.order, self.epoch = pictures, transform, order, epoch

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        source = self.order.generator("item", self.epoch, index)
        rng = random.Random(source.initial_seed())
        with torch.random.fork_rng(devices=[]):  # torchvision's transforms draw from the global generator
            torch.set_rng_state(source.get_state())
            picture = self.transform(self.pictures.picture(index), rng)
        pixels = torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1)
        return pixels, int(self.pictures.labels[index])

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """A share of a batch: (uint8 [B, 3, H, W], int64 [B]); an empty one has the shape of any item."""
        items = [self[index] for index in indices or [0]]
        pixels, labels = torch.stack([pixels for pixels, _ in items]), torch.tensor([label for _, label in items])
        return pixels[: len(indices)], labels[: len(indices)]


def _as_it_is(batch: Any) -> Any:
    return batch


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def _plain_errors(loader: torch.utils.data.DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The loader's batches; a worker's UserError comes without the worker's traceback around it."""
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UserError as error:
            last = str(error).strip().splitlines()[-1]
            raise UserError(last.removeprefix("common.errors.UserError: ")) from None
        yield batch


class FolderBatches(Epochs):
    """The epochs of a set of pictures, with the interface of ``Batches``.

    transform: ``TrainPictures``, ``EvalPictures`` or any picklable ``(picture, rng) -> picture`` with results of
    one size; ``constants`` follow it. workers: loader processes. Raises UserError when there are too few pictures for a
    batch.
    """

    def __init__(
        self,
        pictures: Pictures,
        batch_size: int,
        transform: Callable[[Image.Image, random.Random], Image.Image],
        order: Order,
        sharing: Sharing = Sharing(),
        device: torch.device | str = "cpu",
        workers: int = 0,
        constants: Normalisation = IMAGENET,
    ) -> None:
        super().__init__(pictures.name, len(pictures), batch_size, order, sharing)
        self.pictures, self.transform, self.workers = pictures, transform, workers
        self.device, self.constants = torch.device(device), constants

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (float32 [B, 3, H, W] channels last, int64 [B]) on the device: this process's pictures of every batch
        from ``start`` on.
        """
        order = self.order.places(self.count, epoch).split(self.batch_size)
        steps = range(start, len(self))
        shares = [order[step][self._mine(step)] for step in steps]
        loader = torch.utils.data.DataLoader(
            _Items(self.pictures, self.transform, self.order, epoch),
            batch_sampler=[share.tolist() for share in shares],
            collate_fn=_as_it_is,
            num_workers=min(self.workers, len(shares)),
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_one_thread,
            generator=torch.Generator(),  # else the loader would draw from, and so shift, the global stream
        )
        for share, (pixels, labels) in zip(shares, _plain_errors(loader), strict=True):
            batch = plain(pixels.to(self.device, non_blocking=True), self.constants)
            yield self._erased(batch, self.constants, epoch, share), labels.to(self.device, non_blocking=True)
