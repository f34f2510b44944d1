"""Image sets as this paper reads them: macro structure, normalisation, augmentation, batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from common.data.augment import Augmentation
from common.data.batches import Batches, Order
from common.data.names import SMALL_SETS, in_memory, parse
from common.data.pictures.batches import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EvalPictures,
    FolderBatches,
    Pictures,
    TrainPictures,
    open_pictures,
)
from common.data.pictures.sets import blank_pictures
from common.data.sets import Images, blank, open_images
from common.errors import UserError
from common.run import distributed
from papers.sgnas.networks.architectures import PUBLISHED, Kernels, Macro, load_kernels, macro_for

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

# The authors' constants, used for CIFAR-10 and CIFAR-100 alike.
CIFAR_MEAN, CIFAR_STD = (0.49139968, 0.48215827, 0.44653124), (0.2023, 0.1994, 0.2010)
TESTED = EvalPictures(256, 224, "bicubic")  # pictures of ImageNet's size in tests
Loader = Batches | FolderBatches
ImageSet = Images | Pictures


def open_set(name: str, split: str, options: RunOptions) -> ImageSet:
    """Open an image set by name or path. ``PATH@SIZE`` holds a folder's pictures in memory at that size;
    ``cifar10@16`` is CIFAR at half its size.
    """
    plain, size = parse(name)
    if size and plain in SMALL_SETS:
        return _shrunk(open_images(plain, split, options), name, size)
    return open_images(name, split, options) if in_memory(name) else open_pictures(name, split, options)


def _shrunk(images: Images, name: str, size: int) -> Images:
    """Block averages. Raises UserError for a size that does not divide the set's own."""
    if images.size % size:
        raise UserError(f"{name}: the part after @ must be a size that divides {images.size}, such as 16")
    factor = images.size // size
    pixels = torch.cat(  # in parts: floats of a whole set would need gigabytes
        [torch.nn.functional.avg_pool2d(part.float(), factor).round().byte() for part in images.pixels.split(5000)]
    )
    return replace(images, pixels=pixels)


def macro_of(name: str, images: ImageSet, macro: str) -> Macro:
    """The macro structure for a set. Raises UserError when pictures are too small for it."""
    size = images.size if isinstance(images, Images) else 224
    chosen = ("cifar" if size <= 64 else "imagenet") if macro == "auto" else macro
    if size < 16:
        raise UserError(f"{name}: {size} x {size} pictures are too small for this space; use 16 x 16 or larger")
    return macro_for(chosen, size)


def augmentation(name: str, size: int = 32) -> Augmentation:
    """CIFAR: pad 4 (an eighth of ``size``), random crop, flip; digits bear less."""
    return Augmentation(CIFAR_MEAN, CIFAR_STD, pad=size // 8, flip=True).on(parse(name)[0])


def network_of(arch: str, name: str, images: ImageSet, macro: str) -> tuple[Kernels, Macro]:
    """(kernel lists, macro structure) to build for a set: a published name takes the set's structure, an architecture
    file brings its own unless ``macro`` names another. Raises UserError.
    """
    wanted = macro_of(name, images, macro).name if macro != "auto" or arch in PUBLISHED else None
    kernels, structure = load_kernels(arch, wanted)
    return kernels, macro_of(name, images, structure)


OFFICIAL = {"imagenet": (1000, 1_281_167, 50_000), "cifar10": (10, 50_000, 10_000), "cifar100": (100, 50_000, 10_000)}


def stand_in(name: str, split: str) -> ImageSet:
    """A published set as far as its numbers go, of which no picture can be read: enough to count classes and steps."""
    classes, *counts = OFFICIAL[name]
    count = counts[split != "train"]
    return blank_pictures(name, count, classes) if name == "imagenet" else blank(name, count, classes, size=32)


def pixel_statistics(name: str, images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of the pixels of a set, as normalised everywhere here."""
    if isinstance(images, Images):
        known = augmentation(name, images.size)
        return tuple(known.mean), tuple(known.std)
    return IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Loaders:
    """Makes the batches of parts of one set, for one run: of ``seed``, on ``device``, read by ``workers`` processes."""

    name: str
    seed: int
    device: torch.device
    workers: int = 0

    def __call__(
        self, images: ImageSet, batch_size: int, use: str, stream: str, *, drop_last: bool = False,
        parts: int = 0,
    ) -> Loader:  # fmt: skip
        """use: ``search`` (supernet), ``validation`` (generator), ``scratch`` or ``test``: which transform, and whether
        order and pixels are drawn anew in every epoch. stream: names what is drawn.

        batch_size: of the whole batch, of which each process takes its share. parts: see ``Sharing``.
        """
        test = use == "test"
        order, mine = Order(self.seed, stream, not test, drop_last), distributed.per_process(parts)
        if isinstance(images, Images):
            known = augmentation(self.name, images.size)
            return Batches(images, batch_size, known, order, mine, self.device)
        transforms: dict[str, Any] = {
            "search": TrainPictures(scale=(0.2, 1.0)),
            "validation": TrainPictures(resize=256),
            "scratch": TrainPictures(interpolation="random", jitter=(0.4, 0.4, 0.4, 0.0)),
            "test": TESTED,
        }
        return FolderBatches(images, batch_size, transforms[use], order, mine, self.device, self.workers)
