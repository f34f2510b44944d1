"""The images that a cell of NAS-Bench-201 is trained and tested on, as the benchmark cuts them.

``cifar10``: trained on all 50,000 images and tested on the 10,000 (split ``whole``), or trained on the benchmark's
first half of the training set and validated on the second (``halves``, the benchmark's ``cifar10-valid``).
``cifar100`` and ``imagenet16-120``: trained on the whole training set; the test images are the benchmark's two halves,
``valid`` and ``test``. Other sets: their own parts; ``halves`` cuts their training set at random, evenly over classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from common.data.augment import Augmentation
from common.data.batches import Batches, Order, as_they_stand
from common.data.nasbench201 import SPLIT_SIZES, split_pins
from common.data.parts import benchmark_halves, take
from common.data.pictures.sets import has_validation
from common.data.sets import Images, open_images
from common.errors import UserError
from common.run import distributed
from common.spaces.nasbench201.settings import TrainCell
from common.spaces.sizes import check_pixels

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

Constants = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation


def _over_255(mean: tuple[float, ...], std: tuple[float, ...]) -> Constants:
    return tuple(v / 255 for v in mean), tuple(v / 255 for v in std)


MEAN_STD: dict[str, Constants] = {
    "cifar10": _over_255((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
    "cifar100": _over_255((129.3, 124.1, 112.4), (68.2, 65.4, 70.4)),
    "imagenet16-120": _over_255((122.68, 116.66, 104.01), (63.22, 61.26, 65.09)),
}
"""The benchmark's constants; sets that it lacks take CIFAR-10's."""


class CellData(NamedTuple):
    """What a training of a cell reads."""

    train: Images
    held: dict[str, Images]  # what it is tested on: "test", and "valid" where there is one
    pins: dict[str, str]


def held_out(dataset: str, options: RunOptions) -> dict[str, Images]:
    """The parts that a network of ``dataset`` is tested on: ``test``, and ``valid`` of sets that have one."""
    test = open_images(dataset, "test", options)
    if f"{test.name}-test" in SPLIT_SIZES:
        valid, test, _ = benchmark_halves(test, options.seed, test=True)
        return {"valid": valid, "test": test}
    own = {"valid": open_images(dataset, "val", options)} if has_validation(dataset) else {}
    return {**own, "test": test}


def open_cell_data(settings: TrainCell, options: RunOptions) -> CellData:
    """Raises UserError: absent data, sizes that the network cannot take, a split that the benchmark has not."""
    train, held = open_images(settings.dataset, "train", options), held_out(settings.dataset, options)
    pins = {**train.pins, **{k: v for part in held.values() for k, v in part.pins.items()}}
    check_pixels(settings.dataset, train.size)
    if settings.split == "halves":
        if "valid" in held:
            raise UserError(
                f"--split halves: {settings.dataset} has validation images beside its training set; leave the flag out"
            )
        train, valid, origin = benchmark_halves(train, options.seed)
        held = {"valid": valid, **held}
        pins |= split_pins() if origin == "official" else {}
    elif f"{train.name}-test" in SPLIT_SIZES:
        pins |= split_pins()
    return CellData(take(train, settings.train_images, "--train-images"), held, pins)


def augmentation(settings: TrainCell, images: Images) -> Augmentation:
    """Flip, crop, normalise; the benchmark pads 4 pixels around 32 and 2 around 16. Raises UserError for ``--pad``."""
    if settings.pad > images.size:
        raise UserError(f"--pad must be -1 or 0 to the images' side of {images.size}, not {settings.pad}")
    pad = images.size // 8 if settings.pad < 0 else settings.pad
    return Augmentation(*constants(images.name), pad, settings.flip, order="flip_crop")


def constants(name: str) -> Constants:
    """Mean and standard deviation of a set."""
    return MEAN_STD.get(name, MEAN_STD["cifar10"])


def training_batches(settings: TrainCell, data: CellData, seed: int, device: torch.device) -> Batches:
    """Batches of the training images, augmented, in shares over processes and parts."""
    augment, mine = augmentation(settings, data.train), distributed.per_process(settings.parts)
    return Batches(data.train, settings.batch_size, augment, Order(seed), mine, device)


def testing_batches(images: Images, batch_size: int, seed: int, device: torch.device) -> Batches:
    """Batches of images as they are."""
    plain = Augmentation(*constants(images.name))
    return Batches(images, batch_size, plain, as_they_stand(seed), distributed.per_process(), device)
