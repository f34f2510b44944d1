"""The paper's data recipes: constants, augmentation, the search's split, AutoAugment batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from common import distributed, seeds
from common.data.augment import Augmentation, cutout_mask, draw, normalise, plain, transform
from common.data.batches import Batches
from common.data.folder import EvalPictures, FolderBatches, Pictures, TrainPictures, open_pictures
from common.data.sources import Images, open_images
from common.errors import UserError
from papers.nao_v2.autoaugment import augment_batch

MEAN, STD = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)  # CIFAR-10 and CIFAR-100
IMAGENET_JITTER = (0.4, 0.4, 0.4, 0.2)
CLASSES = {"cifar10": 10, "cifar100": 100, "digits": 10, "imagenet": 1000}


def augmentation(dataset: str, cutout: int = 0) -> Augmentation:
    """Crop 32 with pad 4, flip, cutout. Digits: a shift of up to 2 pixels and no flip (a mirrored digit is none)."""
    if dataset == "digits":
        return Augmentation(MEAN, STD, pad=2, cutout=cutout)
    return Augmentation(MEAN, STD, pad=4, flip=True, cutout=cutout)


def split(rng: np.random.RandomState, images: Images, train_images: int, valid_images: int) -> tuple[Images, Images]:
    """Shuffle all images with the search's numpy stream; the last ``valid_images`` score, the others train.

    Raises UserError when nothing is left for one of them.
    """
    order = np.arange(len(images))
    rng.shuffle(order)
    rest = len(order) - valid_images
    if valid_images < 1 or rest < 1:
        raise UserError(f"{images.name}: {len(images)} images leave nothing after {valid_images} for validation")
    train = order[:rest][:train_images] if train_images else order[:rest]
    return images.subset(train), images.subset(order[rest:])


class AutoAugmentBatches(Batches):
    """Crop, flip, AutoAugment on the uint8 pictures, normalise, cutout: as ``Batches``, a function of (seed, …)."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = self.order(epoch).to(self.images.labels.device)
        constants = self.augmentation
        unit = Augmentation((0.0,) * 3, (1 / 255,) * 3, constants.pad, constants.flip)  # gives pixel values back
        for step in range(start, len(self)):
            number = step * self.world + self.rank
            index = order[number * self.batch_size : (number + 1) * self.batch_size]
            pixels, names = self.images.pixels[index], (self.stream, "augment", epoch, number)
            batch, _, height, width = pixels.shape
            draws = draw(constants, batch, height, width, seeds.generator(self.seed, *names))
            moved = transform(pixels, unit, draws).round().clamp(0, 255).to(torch.uint8)
            out = normalise(augment_batch(moved, seeds.numpy_rng(self.seed, "autoaugment", *names)), constants)
            if constants.cutout // 2:
                cut = (draws.cut_y.to(out.device), draws.cut_x.to(out.device))
                out = out * cutout_mask(*cut, height, width, constants.cutout)
            yield out.contiguous(memory_format=torch.channels_last), self.images.labels[index]


def train_batches(
    images: Images, dataset: str, batch_size: int, seed: int, device: torch.device, stream: str, cutout: int = 0,
    autoaugment: bool = False, share: bool = False,
) -> Batches:  # fmt: skip
    """Training batches of small images; ``share``: this process's part of them."""
    kind = AutoAugmentBatches if autoaugment else Batches
    parts = {"rank": distributed.rank(), "world": distributed.world_size()} if share else {}
    return kind(images, batch_size, augmentation(dataset, cutout), seed, device=device, stream=stream, **parts)


def validation_batch(
    images: Images, count: int, seed: int, iteration: int, number: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A random batch for one architecture: a function of (seed, iteration, its number)."""
    chosen = torch.randperm(len(images), generator=seeds.generator(seed, "score", iteration, number))[:count]
    chosen = chosen.to(images.labels.device)
    return plain(images.pixels[chosen], augmentation(images.name)), images.labels[chosen]


def all_batches(images: Images, size: int = 500) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """All images, without augmentation, in file order."""
    constants = augmentation(images.name)
    pairs = zip(images.pixels.split(size), images.labels.split(size))
    return [(plain(pixels, constants), labels) for pixels, labels in pairs]


def open_set(dataset: str, split_name: str, kind: str, options: Any) -> Images | Pictures:
    """Small images in memory (cifar network), or pictures read one by one (imagenet network)."""
    if kind == "imagenet":
        return open_pictures(dataset, split_name, options)
    images = open_images(dataset, split_name, options)
    if not 32 <= images.size <= 40:
        raise UserError(
            f"{dataset}: {images.size} x {images.size} images; this network takes 32 to 40, try "
            f"{dataset.partition('@')[0]}@32"
        )
    return images


def test_batches(
    images: Images | Pictures, dataset: str, batch_size: int, seed: int, device: torch.device, workers: int
) -> Any:
    """Test batches: normalised only; pictures: shorter side 256, centre crop 224."""
    if isinstance(images, Pictures):
        return FolderBatches(
            images, batch_size, EvalPictures(256, 224), seed, False, device=device, stream="test", workers=workers
        )
    return Batches(images, batch_size, augmentation(dataset), seed, shuffle=False, device=device, stream="test")


def picture_batches(images: Pictures, batch_size: int, seed: int, device: torch.device, workers: int) -> FolderBatches:
    """ImageNet training: random resized crop 224, flip, colour jitter."""
    transforms = TrainPictures(jitter=IMAGENET_JITTER)
    parts = {"rank": distributed.rank(), "world": distributed.world_size()}
    return FolderBatches(images, batch_size, transforms, seed, device=device, stream="train", workers=workers, **parts)
