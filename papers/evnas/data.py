"""The images of a search: one part trains the weights, another measures fitness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from common.cli.errors import UserError
from common.data.augment import Augmentation
from common.data.batches import Batches
from common.data.nasbench201 import SPLIT_SIZES, split_pins
from common.data.parts import benchmark_halves, check_classes, in_file_order, split, take
from common.data.sets import Images, open_images
from common.run import seeds
from common.spaces.sizes import check_pixels
from common.train import distributed
from papers.evnas.settings import SearchS1, SearchSettings

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

CIFAR10 = ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768))
CIFAR100 = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


def _over_255(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(v / 255 for v in mean), tuple(v / 255 for v in std)


# The two searches come from different programs and normalise differently. Sets not listed take CIFAR-10's constants.
S1_CONSTANTS = {"cifar10": CIFAR10, "cifar100": CIFAR100}
S2_CONSTANTS = {
    "cifar10": _over_255((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
    "cifar100": _over_255((129.3, 124.1, 112.4), (68.2, 65.4, 70.4)),
    "imagenet16-120": _over_255((122.68, 116.66, 104.01), (63.22, 61.26, 65.09)),
}


def augmentation(settings: SearchSettings, images: Images) -> Augmentation:
    """S1: crop, flip, normalise, cutout; S2: flip, crop, normalise."""
    first = isinstance(settings, SearchS1)
    constants = S1_CONSTANTS if first else S2_CONSTANTS
    mean, std = constants.get(images.name, constants["cifar10"])
    if not -1 <= settings.pad <= images.size:
        raise UserError(f"--pad must be -1 or 0 to the images' side of {images.size}, not {settings.pad}")
    pad = images.size // 8 if settings.pad < 0 else settings.pad
    return Augmentation(mean, std, pad, settings.flip, settings.cutout, "crop_flip" if first else "flip_crop")


def open_parts(settings: SearchSettings, options: RunOptions) -> tuple[Images, Images, dict[str, str], str]:
    """Images for the weights, images for the fitness, pins of an index file, and where the halves come from.

    The benchmark's CIFAR-100 and ImageNet16-120 searches train on the whole training set and measure on one half of the
    test set. Sets without an order of their own (folders) are shared out evenly over classes. Raises UserError for
    absent data, images whose size is no multiple of 4, and a part that lacks a class.
    """
    images = open_images(settings.dataset, "train", options)
    check_pixels(settings.dataset, images.size)
    seed, pins = options.seed, {}
    if settings.split == "official":
        if f"{images.name}-test" in SPLIT_SIZES:
            held_out = open_images(settings.dataset, "test", options)
            _, second, origin = benchmark_halves(held_out, seed, test=True)
            first, pins = images, {**split_pins(), **held_out.pins}
        else:
            first, second, origin = benchmark_halves(images, seed)
            pins = split_pins() if origin == "official" else {}
    else:
        first, second = (
            random_halves(images, seed) if settings.split == "random" else split(images, 0.5, "--split index")
        )
        origin = settings.split
    first = take(first, settings.train_images, "--train-images")
    return first, take(second, settings.fitness_size, "--fitness-size"), pins, origin


def random_halves(images: Images, seed: int) -> tuple[Images, Images]:
    """Two halves drawn by the seed; of a set without an order of its own, with every class in proportion."""
    if not in_file_order(images):
        return split(images, 0.5, "--split random", seed)
    order, middle = torch.randperm(len(images), generator=seeds.generator(seed, "halves")).numpy(), len(images) // 2
    drawn = images.subset(order[:middle]), images.subset(order[middle:])
    for part in drawn:
        check_classes(part, images, "--split random")
    return drawn


def batches(settings: SearchSettings, parts: tuple[Images, Images], seed: int, device: torch.device) -> list[Batches]:
    """Training batches and fitness batches (a new order in every pass); each shared out over processes and parts."""
    made = []
    fitness_size = min(settings.fitness_batch_size, max(len(parts[1]), 1))
    for images, size, stream, augment in (
        (parts[0], settings.batch_size, "train", True),
        (parts[1], fitness_size, "fitness", settings.fitness_images == "augmented"),
    ):
        made.append(
            Batches(
                images, size, augmentation(settings, images), seed, device=device, stream=stream,
                augment=augment, rank=distributed.rank(), world=distributed.world_size(), parts=settings.parts,
            )
        )  # fmt: skip
    return made
