"""The images of a search: one part trains the weights, another measures fitness."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from common.data.augment import Augmentation
from common.data.batches import Batches, Order
from common.data.nasbench201 import SPLIT_SIZES, split_pins
from common.data.parts import benchmark_halves, check_classes, in_file_order, split, take
from common.data.sets import Images, open_images
from common.errors import UserError
from common.run import distributed, seeds
from common.spaces.nasbench201 import data as nasbench201
from common.spaces.sizes import check_pixels
from papers.evnas.networks.architectures import MEAN_STD
from papers.evnas.settings import Search

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

Constants = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation


# The two searches come from different programs and normalise differently. Sets not listed take CIFAR-10's constants.
CONSTANTS: dict[str, dict[str, Constants]] = {
    "darts": MEAN_STD,
    "nb201": nasbench201.MEAN_STD,
}


class SearchData(NamedTuple):
    """What a search reads."""

    train: Images  # for the weights
    fitness: Images
    origin: str  # where the two parts come from
    pins: dict[str, str]  # of both, and of the benchmark's index file

    @property
    def pinned(self) -> bool:
        """Whether all images match what the pins file states."""
        return self.train.pinned and self.fitness.pinned


def augmentation(settings: Search, images: Images) -> Augmentation:
    """DARTS: crop, flip, normalise, cutout; NAS-Bench-201: flip, crop, normalise. Raises UserError for ``--pad``."""
    constants = CONSTANTS[settings.space]
    mean, std = constants.get(images.name, constants["cifar10"])
    if settings.pad > images.size:
        raise UserError(f"--pad must be -1 or 0 to the images' side of {images.size}, not {settings.pad}")
    pad = images.size // 8 if settings.pad < 0 else settings.pad
    order = "crop_flip" if settings.space == "darts" else "flip_crop"
    return Augmentation(mean, std, pad, settings.flip, settings.cutout, order)


def open_search_data(settings: Search, options: RunOptions) -> SearchData:
    """The images of a search in their two parts (Method 6 of the README).

    The benchmark's CIFAR-100 and ImageNet16-120 searches train on the whole training set and measure on the validation
    half of the test set. Sets without an order of their own (folders) are shared out evenly over classes. Raises
    UserError for absent data, images whose size is no multiple of 4, and a part that lacks a class.
    """
    images = open_images(settings.dataset, "train", options)
    check_pixels(settings.dataset, images.size)
    pins, origin = dict(images.pins), settings.split
    if settings.split == "official" and f"{images.name}-test" in SPLIT_SIZES:
        held_out = open_images(settings.dataset, "test", options)
        second, _, origin = benchmark_halves(held_out, options.seed, test=True)  # x-valid; x-test is left for the end
        first, pins = images, {**pins, **split_pins(), **held_out.pins}
    elif settings.split == "official":
        first, second, origin = benchmark_halves(images, options.seed)
        pins |= split_pins() if origin == "official" else {}
    elif settings.split == "random":
        first, second = random_halves(images, options.seed)
    else:
        first, second = split(images, 0.5, "--split index")
    first = take(first, settings.train_images, "--train-images")
    return SearchData(first, take(second, settings.fitness_images, "--fitness-images"), origin, pins)


def random_halves(images: Images, seed: int) -> tuple[Images, Images]:
    """Two halves drawn by the seed; of a set without an order of its own, with every class in proportion."""
    if not in_file_order(images):
        return split(images, 0.5, "--split random", seed)
    order, middle = torch.randperm(len(images), generator=seeds.generator(seed, "halves")).numpy(), len(images) // 2
    drawn = images.subset(order[:middle]), images.subset(order[middle:])
    for part in drawn:
        check_classes(part, images, "--split random")
    return drawn


def batches(settings: Search, data: SearchData, seed: int, device: torch.device) -> tuple[Batches, Batches]:
    """Training batches and fitness batches (a new order in every pass); each shared out over processes and parts."""
    fitness_size = min(settings.fitness_batch_size, max(len(data.fitness), 1))
    mine = distributed.per_process(settings.parts)
    train, fitness = (
        Batches(images, size, augmentation(settings, images), Order(seed, stream), mine, device, augment)
        for images, size, stream, augment in (
            (data.train, settings.batch_size, "train", True),
            (data.fitness, fitness_size, "fitness", settings.fitness_augment),
        )
    )  # fmt: skip
    return train, fitness
