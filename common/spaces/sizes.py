"""Which pictures the cell networks (DARTS space, NAS-Bench-201) take; asked before anything is built."""

from __future__ import annotations

from common.data.names import CLASSES, classes_of, exists, parse
from common.errors import UserError
from common.spaces.architecture import Record

PICTURES_FROM = 128  # pixels from which pictures take the ImageNet network, at 224


def sized(said: Record, dataset: str, classes: int, channels: int, layers: int) -> Record:
    """What a file says, for a folder of pictures of the user's, and with the classes, width and depth that they give
    (0: the set's, the file's). Raises UserError for a folder that cannot be read, or pictures of a wrong size.
    """
    plain, size = parse(dataset)
    if dataset and plain not in CLASSES and exists(plain):
        from common.data.pictures.sizes import image_size

        pixels = image_size(dataset)
        imagenet = pixels >= PICTURES_FROM and not size
        if not imagenet:
            check_pixels(dataset, pixels)
        said = said._replace(
            dataset=dataset, classes=classes_of(dataset), pixels=224 if imagenet else pixels, imagenet=imagenet
        )  # fmt: skip
    return said._replace(
        classes=classes or said.classes, channels=channels or said.channels, layers=layers or said.layers
    )  # fmt: skip


def check_pixels(name: str, pixels: int, auxiliary: bool = False) -> None:
    """The networks halve a picture twice, and the CIFAR auxiliary classifier needs 8 to 10 pixels after that.

    name: the data set as the user wrote it; pixels: side of its images. Raises UserError.
    """
    folder, _ = parse(name)
    if pixels % 4:
        raise UserError(
            f"{folder}: images of {pixels} pixels; the network needs a multiple of 4 (a folder of pictures is resized "
            f"by {folder}@{max(4, round(pixels / 4) * 4)})"
        )
    if auxiliary and not 32 <= pixels <= 40:
        raise UserError(
            f"{folder}: images of {pixels} pixels; the auxiliary classifier takes 32 to 40, use --no-auxiliary "
            f"(or, for a folder of pictures, {folder}@32)"
        )


def check_depth(layers: int, auxiliary: bool) -> None:
    """The auxiliary classifier follows the second reduction, and one layer has only one. Raises UserError."""
    if auxiliary and layers < 2:
        raise UserError(f"--layers {layers} has one reduction; the auxiliary classifier needs two, use --no-auxiliary")


def check_last_batch(images: int, batch_size: int, auxiliary: bool) -> None:
    """The CIFAR auxiliary classifier normalises single pixels, and one image has no variance. Raises UserError."""
    if auxiliary and images % batch_size == 1:
        raise UserError(
            f"{images} images leave a last batch of one, which the auxiliary classifier cannot normalise; change the "
            f"batch size of {batch_size} or use --no-auxiliary"
        )
