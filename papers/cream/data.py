"""Batches for search, training and test: images in memory, or pictures from folders and LMDB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from common import distributed, seeds
from common.data.augment import Augmentation
from common.data.batches import Batches
from common.data.folder import FolderBatches, Pictures, open_pictures
from common.data.sources import Images, open_images
from common.errors import UserError
from papers.cream.randaugment import RandAugment
from papers.cream.subset import subset_indices
from papers.cream.transforms import MEAN, STD, Erasing, TestTransform, TrainTransform

IN_MEMORY = ("digits", "cifar10", "cifar100", "imagenet16-120")
SAMPLED = 8  # pictures looked at when a set is opened
SMALLEST = 32  # the networks halve the picture five times
Source = Images | Pictures


class Epochs(Protocol):
    """What ``Batches`` and ``FolderBatches`` have in common."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]: ...


class Erased:
    """Random erasing on top of in-memory batches."""

    def __init__(self, batches: Batches, erasing: Erasing, seed: int) -> None:
        self.batches, self.erasing, self.seed = batches, erasing, seed

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for step, (x, y) in enumerate(self.batches.epoch(epoch, start), start):
            number = step * self.batches.world + self.batches.rank
            yield self.erasing(x, seeds.generator(self.seed, "erase", epoch, number)), y


def open_source(dataset: str, split: str, resolution: int, options: Any) -> Source:
    """Images in memory for the small sets (and ``FOLDER@SIZE``), pictures on disk for everything else.

    Raises UserError when the resolution is too small for the network, or larger than images in memory.
    """
    if resolution < SMALLEST:
        raise UserError(
            f"resolution {resolution} is too small: the network halves the image five times, use >= {SMALLEST}"
        )
    if dataset.partition("@")[0] in IN_MEMORY or "@" in dataset:
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


def limited(source: Source, count: int, what: str = "train_images") -> Source:
    """The first ``count`` images (0: all), spread over the classes: an order fixed by the set alone."""
    if not count or count >= len(source):
        return source
    order = torch.randperm(len(source), generator=seeds.generator(0, what, len(source)))
    return source.subset(order[:count].sort().values.numpy())


def hold_out(source: Source, count: int) -> tuple[Source, Source | None]:
    """(searched, held out): ``count`` images chosen by a fixed order. Raises UserError when none would be left."""
    if not count:
        return source, None
    if count >= len(source):
        raise UserError(f"--holdout {count} leaves none of the {len(source)} training images; lower it")
    order = torch.randperm(len(source), generator=seeds.generator(0, "holdout", len(source)))
    return source.subset(order[count:].sort().values.numpy()), source.subset(order[:count].sort().values.numpy())


def subset(source: Source, classes: int, per_class: int) -> Source:
    """The rank-correlation subset by rule (section 7); 0 classes: the whole set."""
    if not classes:
        return source
    return source.subset(subset_indices(labels_of(source).tolist(), classes, per_class))


def train_batches(
    source: Source, settings: Any, resolution: int, seed: int, device: torch.device, parts: int,
    jitter: float = 0.0, randaugment: RandAugment | None = None,
) -> Epochs:  # fmt: skip
    """Shuffled, augmented batches of one part each; this process gets its share of every group of ``parts``."""
    if len(source) < settings.batch_size * parts:
        raise UserError(
            f"{source.name}: {len(source)} images are too few for {parts} part(s) of {settings.batch_size}; lower "
            f"--batch-size or --parts"
        )
    world = {"rank": distributed.rank(), "world": distributed.world_size()}
    erasing = Erasing(settings.erasing)
    if isinstance(source, Images):
        augmentation = Augmentation(MEAN, STD, pad=settings.pad, flip=settings.flip)
        batches = Batches(source, settings.batch_size, augmentation, seed, drop_last=True, device=device, **world)
        return Erased(batches, erasing, seed) if settings.erasing else batches
    transform = TrainTransform(resolution, (settings.scale_min, 1.0), jitter, settings.flip, randaugment)
    return FolderBatches(
        source, settings.batch_size, transform, seed, drop_last=True, device=device, workers=settings.workers,
        mean=MEAN, std=STD, erase=erasing if settings.erasing else None, **world,
    )  # fmt: skip


def test_batches(
    source: Source, batch_size: int, resolution: int, device: torch.device, workers: int,
    interpolation: str = "bicubic",
) -> Epochs:  # fmt: skip
    """This process's share of a set, in order, with the test transform; no image is dropped or counted twice."""
    if distributed.world_size() > 1:
        source = source.subset(range(distributed.rank(), len(source), distributed.world_size()))
    if isinstance(source, Images):
        plain = Augmentation(MEAN, STD)
        return Batches(source, batch_size, plain, 0, shuffle=False, device=device, stream="test")
    transform = TestTransform(resolution, interpolation)
    return FolderBatches(
        source,
        batch_size,
        transform,
        0,
        shuffle=False,
        device=device,
        stream="test",
        workers=workers,
        mean=MEAN,
        std=STD,
    )


test_batches.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


def data_pins(*sources: Source | None) -> dict[str, Any]:
    """What result.json says about the data: whether all of it was pinned, and the pins."""
    known = [source for source in sources if source is not None]
    return {"pinned": all(s.pinned for s in known), "pins": {k: v for s in known for k, v in s.pins.items()}}


def parts_here(parts: int) -> int:
    """Parts of every batch this process works on. Raises UserError when they cannot be shared evenly."""
    if parts < 1 or parts % distributed.world_size():
        raise UserError(
            f"--parts {parts} cannot be shared by {distributed.world_size()} processes; use a multiple of it"
        )
    return parts // distributed.world_size()
