"""The paper's data recipes: normalisation, augmentation, and the split between supernet and generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from common.cli.errors import UserError
from common.data import parts
from common.data.augment import Augmentation
from common.data.batches import Batches
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
from common.data.sets import Images, open_images
from common.train import distributed
from papers.sgnas.describe import load_kernels
from papers.sgnas.network.architectures import PUBLISHED, Kernels, Macro, macro_for

# The authors' constants, used for CIFAR-10 and CIFAR-100 alike.
CIFAR_MEAN, CIFAR_STD = (0.49139968, 0.48215827, 0.44653124), (0.2023, 0.1994, 0.2010)
Loader = Batches | FolderBatches


@dataclass(frozen=True)
class Opened:
    """A data set's macro structure, classes, and pins."""

    macro: Macro
    classes: int
    pinned: bool
    pins: dict[str, str]


def open_set(name: str, split: str, options: Any) -> Images | Pictures:
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


def macro_of(name: str, images: Images | Pictures, macro: str) -> Macro:
    """The macro structure for a set. Raises UserError when pictures are too small for it."""
    size = images.size if isinstance(images, Images) else 224
    chosen = ("cifar" if size <= 64 else "imagenet") if macro == "auto" else macro
    if size < 16:
        raise UserError(f"{name}: {size} x {size} pictures are too small for this space; use 16 x 16 or larger")
    return macro_for(chosen, size)


def describe_set(name: str, images: Images | Pictures, macro: str) -> Opened:
    return Opened(macro_of(name, images, macro), len(images.classes), images.pinned, dict(images.pins))


def augmentation(name: str, size: int = 32) -> Augmentation:
    """CIFAR: pad 4 (an eighth of ``size``), random crop, flip. Digits: a shift of up to 2 pixels and no flip."""
    if parse(name)[0] == "digits":
        return Augmentation(CIFAR_MEAN, CIFAR_STD, pad=2)
    return Augmentation(CIFAR_MEAN, CIFAR_STD, pad=size // 8, flip=True)


@dataclass(frozen=True)
class Split:
    """How a set is shared out between supernet and generator; everything that decides which image goes where.

    portion: the supernet's share of all images, 1: all but ``search_images``. train_images, search_images: at most so
    many of the supernet's share, and exactly so many for the generator (0: all).
    """

    portion: float
    train_images: int
    search_images: int

    def parts(self, images: Images | Pictures, search_images: int | None = None) -> tuple[Any, Any]:
        """(supernet's, generator's) images, every class in both: CIFAR and digits in file order, the supernet's first;
        of other sets the classes in turn. Raises UserError.

        search_images: another number of images that the supernet has not seen (0: all of them).
        """
        count, what = len(images), "--train-portion and --search-images"
        cut = int(np.floor(self.portion * count)) if self.portion < 1 else count - self.search_images
        if not 0 < cut < count or cut + self.search_images > count:
            share = f"a share of {self.portion:g}" if self.portion < 1 else "the rest"
            wanted = f"{self.search_images:,}" if self.search_images else "the rest"
            raise UserError(
                f"{images.name}: {count:,} images do not give the supernet {share} and the generator {wanted} of them; "
                f"change --train-portion or --search-images"
            )
        train, rest = parts.split(images, cut, what)
        held = self.search_images if search_images is None else search_images
        return parts.take(train, self.train_images, "--train-images"), parts.take(rest, held, "--search-images")


def one_process(verb: str) -> None:
    """Raises UserError under torchrun, for verbs that measure time or write one file after the other."""
    if distributed.world_size() > 1:
        raise UserError(f"{verb} runs in one process, others would only disturb it; start it without torchrun")


def network_of(arch: str, name: str, images: Images | Pictures, macro: str) -> tuple[Kernels, Macro]:
    """(kernel lists, macro structure) to build for a set: a published name takes the set's structure, an architecture
    file brings its own unless ``macro`` names another. Raises UserError.
    """
    wanted = macro_of(name, images, macro).name if macro != "auto" or arch in PUBLISHED else None
    kernels, structure = load_kernels(arch, wanted)
    return kernels, macro_of(name, images, structure)


OFFICIAL = {"imagenet": (1000, 1_281_167, 50_000), "cifar10": (10, 50_000, 10_000), "cifar100": (100, 50_000, 10_000)}


def stand_in(name: str, split: str) -> Images | Pictures:
    """A published set as far as its numbers go, of which no picture can be read: enough to count classes and steps."""
    classes, *counts = OFFICIAL[name]
    count = counts[split != "train"]
    labels, names = np.arange(count) % classes, tuple(map(str, range(classes)))
    if name == "imagenet":
        return Pictures(None, labels, np.arange(count), names, name)  # type: ignore[arg-type]
    return Images(torch.zeros(1, 3, 32, 32).expand(count, -1, -1, -1), torch.from_numpy(labels), names, name, True)


def open_or_count(name: str, split: str, options: Any) -> tuple[Images | Pictures, str]:
    """(the set, "") for a plan; for a published set that is not there its official numbers, and a line that says so."""
    try:
        return open_set(name, split, options), ""
    except UserError as error:
        if name not in OFFICIAL:
            raise
        return stand_in(name, split), f"official numbers of {name}, as {error}"


def constants(name: str, images: Images | Pictures) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of the pixels of a set, as normalised everywhere here."""
    if isinstance(images, Images):
        known = augmentation(name, images.size)
        return tuple(known.mean), tuple(known.std)
    return IMAGENET_MEAN, IMAGENET_STD


def loader(
    name: str,
    images: Images | Pictures,
    batch_size: int,
    seed: int,
    device: torch.device,
    kind: str,
    stream: str,
    workers: int = 0,
    drop_last: bool = False,
    shares: int = 0,
) -> Loader:
    """Batches of a set. kind: ``search`` (supernet), ``validation`` (generator), ``scratch`` or ``test``.

    batch_size: of the whole batch, of which each process takes its share; shares: ``parts`` of ``Epochs``.
    """
    test = kind == "test"
    share = {"rank": distributed.rank(), "world": distributed.world_size(), "parts": shares}
    if isinstance(images, Images):
        return Batches(
            images,
            batch_size,
            augmentation(name, images.size),
            seed,
            not test,
            drop_last,
            device,
            stream,
            augment=not test,
            **share,
        )
    transforms = {
        "search": TrainPictures(scale=(0.2, 1.0)),
        "validation": TrainPictures(resize=256),
        "scratch": TrainPictures(interpolation="random", jitter=(0.4, 0.4, 0.4, 0.0)),
        "test": EvalPictures(256, 224, "bicubic"),
    }
    return FolderBatches(
        images, batch_size, transforms[kind], seed, not test, drop_last, device, stream, workers, **share
    )
