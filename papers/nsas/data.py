"""The images of the searches in the DARTS space: their two parts, and how they are augmented."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.data.augment import Augmentation
from common.data.parts import split, take
from common.data.sets import Images, open_images
from common.spaces.sizes import check_pixels

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

CIFAR_MEAN, CIFAR_STD = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)


def search_parts(dataset: str, train_images: int, portion: float, options: RunOptions) -> tuple[Images, Images]:
    """(images for the weights, images for the selection) of a training set, the first ``portion`` and the rest.

    CIFAR in file order. Raises UserError for pictures that the network does not take, or parts that lack a class.
    """
    images = open_images(dataset, "train", options)
    check_pixels(dataset, images.size)
    images = take(images, train_images, "--train-images")
    return split(images, portion, "--train-portion")


def augmentation(images: Images, cutout: int = 0) -> Augmentation:
    """Crop with padding 4 and flip, as far as the set bears them, with the CIFAR-10 constants on every set."""
    return Augmentation(CIFAR_MEAN, CIFAR_STD, pad=4, flip=True, cutout=cutout).on(images.name)


def constants(dataset: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation: those of CIFAR-10 for every set, as released."""
    return CIFAR_MEAN, CIFAR_STD


def origin_of(images: Images) -> dict[str, str | int]:
    """What an architecture file says of the set that its cell was found on."""
    return {"dataset": images.name, "classes": len(images.classes), "pixels": images.size}
