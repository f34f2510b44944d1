"""Batches for search, training and test: images in memory, or pictures from folders and LMDB."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.cli.errors import UserError
from common.cli.settings import refuse_idle
from common.data.augment import Augmentation
from common.data.batches import Batches, Epochs
from common.data.names import in_memory
from common.data.parts import order
from common.data.pictures.batches import FolderBatches, Pictures, open_pictures
from common.data.sets import Images, open_images
from common.train import distributed
from papers.cream.data.randaugment import RandAugment
from papers.cream.data.subset import subset_indices
from papers.cream.data.transforms import MEAN, STD, Erasing, TestTransform, TrainTransform

SAMPLED = 8  # pictures looked at when a set is opened
SMALLEST = 32  # the networks halve the picture five times
Source = Images | Pictures


@dataclass(frozen=True)
class InMemory:
    """Images in memory one by one as pictures, for the transforms that work on pictures."""

    images: Images

    @property
    def name(self) -> str:
        return self.images.name

    @property
    def labels(self) -> Tensor:
        return self.images.labels

    def __len__(self) -> int:
        return len(self.images)

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(self.images.pixels[index].permute(1, 2, 0).cpu().numpy())


def open_source(dataset: str, split: str, resolution: int, options: Any) -> Source:
    """Images in memory for the small sets (and ``FOLDER@SIZE``), pictures on disk for everything else.

    Raises UserError when the resolution is too small for the network, or larger than images in memory.
    """
    if resolution < SMALLEST:
        raise UserError(
            f"resolution {resolution} is too small: the network halves the image five times, use >= {SMALLEST}"
        )
    if in_memory(dataset):
        images = open_images(dataset, split, options)
        if images.size < resolution:
            raise UserError(f"{dataset}: images of {images.size} pixels are smaller than --resolution {resolution}")
        if images.size > resolution:
            raise UserError(f"{dataset}: images of {images.size} pixels are not scaled; use --resolution {images.size}")
        return images
    pictures = open_pictures(dataset, split, options)
    _check_sizes(pictures, resolution)
    return pictures


def _check_sizes(pictures: Pictures, resolution: int) -> None:
    """A few pictures, spread over the set, tell a set of small ones from one with a small one among large ones."""
    at = np.linspace(0, len(pictures) - 1, min(len(pictures), SAMPLED)).astype(int)
    largest = max((min(pictures.picture(i).size) for i in at), default=resolution)
    if largest < resolution:
        raise UserError(
            f"{pictures.name}: pictures of {largest} pixels are smaller than --resolution {resolution}; lower it"
        )


def labels_of(source: Source) -> Tensor:
    return torch.as_tensor(source.labels)


def calibration_images(source: Source, count: int) -> Source:
    """``count`` images of a set, every class in turn, to take running statistics from."""
    return source.subset(order(source)[:count])


def subset(source: Source, classes: int, per_class: int) -> Source:
    """The rank-correlation subset by rule, as released; 0 classes: the whole set."""
    if not classes:
        return source
    return first_classes(source.subset(subset_indices(labels_of(source).tolist(), classes, per_class)), classes)


def first_classes(source: Source, classes: int) -> Source:
    """The images of the first classes, which are then all the classes there are (0: the set as it is)."""
    if not classes or classes >= len(source.classes):
        return source
    kept = source.subset(np.flatnonzero(labels_of(source).cpu().numpy() < classes))
    return replace(kept, classes=source.classes[:classes])  # type: ignore[type-var]


def shares_of(settings: Any) -> int:
    """Shares that every batch is worked through in, over all processes. Raises UserError when they do not fit them."""
    world = distributed.world_size()
    shares = settings.parts or world
    if shares % world:
        raise UserError(f"--parts {shares} cannot be shared by {world} processes; use a multiple of it")
    if settings.batch_size // shares < 2:
        raise UserError(
            f"--batch-size {settings.batch_size} in {shares} parts leaves shares of less than two images, which batch "
            f"normalisation cannot work on; raise --batch-size or lower --parts"
        )
    return shares


def check_batch(source: Source, batch_size: int) -> None:
    """Raises UserError for a set too small for one batch."""
    if len(source) < batch_size:
        raise UserError(
            f"{source.name}: {len(source)} images are too few for a batch of {batch_size}; lower --batch-size"
        )


def train_batches(
    source: Source, settings: Any, resolution: int, seed: int, device: torch.device, jitter: float = 0.0,
    randaugment: RandAugment | None = None,
) -> Epochs:  # fmt: skip
    """Shuffled, augmented batches, the incomplete last one of an epoch left out; this process has its shares of each.

    Raises UserError for a set too small for one batch, and a padded crop of pictures that are not in memory.
    """
    check_batch(source, settings.batch_size)
    erase = Erasing(settings.erasing) if settings.erasing else None
    shared: dict[str, Any] = {
        "drop_last": True, "device": device, "erase": erase, "rank": distributed.rank(),
        "world": distributed.world_size(), "parts": shares_of(settings),
    }  # fmt: skip
    padded = settings.crop == "padded"
    if padded and not isinstance(source, Images):
        raise UserError(
            f"{source.name}: --crop padded works on small images in memory (digits, cifar10, cifar100, FOLDER@SIZE); "
            f"use --crop resized"
        )
    if isinstance(source, Images) and padded and not jitter and randaugment is None:  # all at once, on the device
        augmentation = Augmentation(MEAN, STD, pad=settings.pad, flip=settings.flip)
        return Batches(source, settings.batch_size, augmentation, seed, **shared)
    transform = TrainTransform(
        resolution, (settings.scale_min, 1.0), jitter, settings.flip, randaugment, settings.pad if padded else None
    )
    pictures: Any = InMemory(source) if isinstance(source, Images) else source
    return FolderBatches(
        pictures, settings.batch_size, transform, seed, workers=settings.workers, mean=MEAN, std=STD, **shared
    )


def test_batches(
    source: Source, batch_size: int, resolution: int, device: torch.device, workers: int,
    interpolation: str = "bicubic", everywhere: bool = False,
) -> Epochs:  # fmt: skip
    """A set in order with the test transform, no image dropped or counted twice: this process's share of every batch.

    everywhere: every process gets all of it (what statistics are taken from).
    """
    shared: dict[str, Any] = {"shuffle": False, "device": device, "stream": "test"}
    if not everywhere:
        shared |= {"rank": distributed.rank(), "world": distributed.world_size(), "parts": 0}
    if isinstance(source, Images):
        return Batches(source, batch_size, Augmentation(MEAN, STD), 0, **shared)
    transform = TestTransform(resolution, interpolation)
    return FolderBatches(source, batch_size, transform, 0, workers=workers, mean=MEAN, std=STD, **shared)


test_batches.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


def refuse_interpolation(settings: Any, source: Source, given: frozenset[str] | None) -> None:
    """Raises UserError for a given ``interpolation`` where images in memory are tested as they are."""
    if isinstance(source, Images):
        refuse_idle(settings, {"interpolation": "pictures (imagenet, tiny-imagenet-20, a folder, an .lmdb)"}, given)


def data_pins(*sources: Source | None) -> dict[str, Any]:
    """What result.json says about the data: whether all of it was pinned, and the pins."""
    known = [source for source in sources if source is not None]
    return {"pinned": all(s.pinned for s in known), "pins": {k: v for s in known for k, v in s.pins.items()}}
