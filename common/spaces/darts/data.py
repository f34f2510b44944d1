"""The images that a derived network is trained and tested on: small ones in memory, or pictures of 224 pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from common.data.augment import Augmentation
from common.data.batches import Batches, Order, as_they_stand
from common.data.parts import take
from common.data.pictures.batches import EvalPictures, FolderBatches, TrainPictures, open_pictures
from common.data.pictures.sets import has_validation
from common.data.sets import Images, open_images
from common.errors import UserError
from common.run import distributed
from common.run.distributed import cuts
from common.spaces.darts.settings import TrainDerived
from common.spaces.sizes import check_depth, check_last_batch, check_pixels

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

PICTURE_PIXELS = 224


@dataclass(frozen=True)
class TrainingData:
    """What a training reads."""

    train: Any  # batches of the training set
    judged: dict[str, Any]  # batches of the parts it is judged on: "val" where the set has one, and "test"
    classes: Sequence[str]
    pixels: int  # side of an image
    pins: dict[str, str]
    pinned: bool

    @property
    def judge(self) -> str:
        """The part that judges the epochs: a set's own validation part, else the test set, as in the programs."""
        return next(iter(self.judged))


def open_small(
    settings: TrainDerived, options: RunOptions, device: torch.device, augmentation: Callable[[Images], Augmentation]
) -> TrainingData:
    """Images in memory, for the CIFAR form. ``augmentation`` of the training images, whose constants tests use too.

    Raises UserError for absent data, images the network cannot take, and batches that leave an image alone.
    """
    images = open_images(settings.dataset, "train", options)
    held = {part: open_images(settings.dataset, part, options) for part in parts_judged(settings.dataset)}
    check_pixels(settings.dataset, images.size, settings.auxiliary)
    check_depth(settings.layers, settings.auxiliary)
    images = take(images, settings.train_images, "--train-images")
    augment = augmentation(images)
    mine, order = distributed.per_process(settings.parts), as_they_stand(options.seed)
    train = Batches(images, settings.batch_size, augment, Order(options.seed), mine, device)
    check_shares(len(images), settings.batch_size, mine.shares, settings.auxiliary)
    judged = {
        part: Batches(set_, settings.eval_batch_size, augment, order, distributed.per_process(), device)
        for part, set_ in held.items()
    }
    return TrainingData(train, judged, images.classes, images.size, *pins_of(images, *held.values()))


def open_large(settings: TrainDerived, options: RunOptions, device: torch.device, workers: int) -> TrainingData:
    """Pictures in folders or LMDB, for the ImageNet form: random resized crop, flip, colour jitter 0.4/0.4/0.4/0.2;
    in tests the centre of 256. ``workers`` load them. Raises UserError.
    """
    check_depth(settings.layers, settings.auxiliary)
    pictures = open_pictures(settings.dataset, "train", options)
    held = {part: open_pictures(settings.dataset, part, options) for part in parts_judged(settings.dataset)}
    pictures = take(pictures, settings.train_images, "--train-images")
    augment, mine = TrainPictures(jitter=(0.4, 0.4, 0.4, 0.2)), distributed.per_process(settings.parts)
    train = FolderBatches(pictures, settings.batch_size, augment, Order(options.seed), mine, device, workers)
    order, share = as_they_stand(options.seed), distributed.per_process()
    judged = {
        part: FolderBatches(set_, settings.eval_batch_size, EvalPictures(), order, share, device, workers)
        for part, set_ in held.items()
    }
    return TrainingData(train, judged, pictures.classes, PICTURE_PIXELS, *pins_of(pictures, *held.values()))


def open_test(
    dataset: str, imagenet: bool, batch_size: int, options: RunOptions, device: torch.device,
    constants: Callable[[str], tuple[tuple[float, ...], tuple[float, ...]]], workers: int,
) -> tuple[Any, Any]:  # fmt: skip
    """(test set, its batches) in the ImageNet or the CIFAR form; ``constants``: a set's name -> mean and std of small
    images. Raises UserError.
    """
    order, share = as_they_stand(options.seed), distributed.per_process()
    if imagenet:
        test = open_pictures(dataset, "test", options)
        return test, FolderBatches(test, batch_size, EvalPictures(), order, share, device, workers)
    images = open_images(dataset, "test", options)
    check_pixels(dataset, images.size)
    return images, Batches(images, batch_size, Augmentation(*constants(images.name)), order, share, device)


def parts_judged(dataset: str) -> tuple[str, ...]:
    """The parts that a training is judged on, the one for its epochs first: ``val`` where it has one, ``test``."""
    return ("val", "test") if has_validation(dataset) else ("test",)


def pins_of(*sets: Any) -> tuple[dict[str, str], bool]:
    """What identifies the images of all sets, and whether all of it is as pinned."""
    return {n: digest for images in sets for n, digest in images.pins.items()}, all(images.pinned for images in sets)


def check_shares(images: int, batch_size: int, parts: int, auxiliary: bool) -> None:
    """The CIFAR auxiliary classifier normalises single pixels, and one image has no variance. Raises UserError."""
    check_last_batch(images, batch_size, auxiliary)
    for size in {min(batch_size, images), images % batch_size or batch_size} if auxiliary and parts > 1 else ():
        limits = cuts(size, parts)
        if 1 in (after - before for before, after in pairwise(limits)):
            raise UserError(
                f"a batch of {size} images in {parts} shares leaves a share of one, which the auxiliary classifier "
                f"cannot normalise; change --batch-size or --train-images, or use --no-auxiliary"
            )
