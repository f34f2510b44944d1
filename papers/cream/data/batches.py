"""Batches for search, training and test: images in memory, or pictures from folders and LMDB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from common.data.augment import Augmentation, Normalisation
from common.data.batches import Batches, Epochs, Order, as_they_stand
from common.data.parts import order, refuse_sizes
from common.data.pictures.batches import FolderBatches
from common.data.sets import Images
from common.errors import UserError
from common.run import distributed
from common.run.distributed import Sharing
from common.settings import refuse_idle
from papers.cream.data.randaugment import RandAugment
from papers.cream.data.sets import Source, fitting_shares
from papers.cream.data.transforms import MEAN, STD, Erasing, TestTransform, TrainTransform
from papers.cream.settings import TrainingBatches


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


def check_batch(source: Source, settings: TrainingBatches) -> None:
    """Raises UserError with sizes that fit, for a set too small for one batch."""
    classes = len(getattr(source, "classes", ()))
    refuse_sizes(source.name, len(source), classes, settings, fitting_shares(settings, len(source)))


def train_batches(
    source: Source, settings: TrainingBatches, resolution: int, seed: int, device: torch.device, jitter: float = 0.0,
    randaugment: RandAugment | None = None,
) -> Epochs:  # fmt: skip
    """Shuffled, augmented batches, the incomplete last one of an epoch left out; this process has its shares of each.

    Raises UserError for a set too small for one batch, and a padded crop of pictures that are not in memory.
    """
    check_batch(source, settings)
    erase = Erasing(settings.erasing) if settings.erasing else None
    drawn, mine = Order(seed, drop_last=True), distributed.per_process(settings.shares())
    padded = settings.crop == "padded"
    if padded and not isinstance(source, Images):
        raise UserError(
            f"{source.name}: --crop padded works on small images in memory (digits, cifar10, cifar100, FOLDER@SIZE); "
            f"append @SIZE to the set's name, or use --crop resized"
        )
    if isinstance(source, Images) and padded and not jitter and randaugment is None:  # all at once, on the device
        augmentation = Augmentation(MEAN, STD, pad=settings.pad, flip=settings.flip, erase=erase)
        return Batches(source, settings.batch_size, augmentation, drawn, mine, device)
    transform = TrainTransform(
        resolution, (settings.scale_min, 1.0), jitter, settings.flip, randaugment, settings.pad if padded else None
    )
    pictures: Any = InMemory(source) if isinstance(source, Images) else source
    constants = Normalisation(MEAN, STD, erase=erase)
    return FolderBatches(pictures, settings.batch_size, transform, drawn, mine, device, settings.workers, constants)


def plain_batches(
    source: Source, batch_size: int, resolution: int, device: torch.device, workers: int,
    interpolation: str = "bicubic", everywhere: bool = False,
) -> Epochs:  # fmt: skip
    """A set in order with the test transform, no image dropped or counted twice: this process's share of every batch.

    everywhere: every process gets all of it (what statistics are taken from).
    """
    standing, mine = as_they_stand(0), Sharing() if everywhere else distributed.per_process()
    if isinstance(source, Images):
        return Batches(source, batch_size, Augmentation(MEAN, STD), standing, mine, device)
    transform = TestTransform(resolution, interpolation)
    return FolderBatches(source, batch_size, transform, standing, mine, device, workers, Normalisation(MEAN, STD))


def calibration_batches(
    source: Source, count: int, batch_size: int, resolution: int, device: torch.device, workers: int
) -> list[Tensor]:
    """``count`` batches of plain training images, every class in turn, the same in every process."""
    if not count:
        return []
    first = source.subset(order(source)[: count * batch_size])
    plain = plain_batches(first, batch_size, resolution, device, workers, everywhere=True)
    return [x for x, _ in plain.epoch(0)][:count]


def refuse_interpolation(settings: Any, source: Source, given: frozenset[str] | None) -> None:
    """Raises UserError for a given ``interpolation`` where images in memory are tested as they are."""
    if isinstance(source, Images):
        refuse_idle(settings, {"interpolation": "pictures (imagenet, tiny-imagenet-20, a folder, an .lmdb)"}, given)
