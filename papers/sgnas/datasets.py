"""The paper's data recipes: normalisation, augmentation, and the split between supernet and generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from common import distributed, seeds
from common.data.augment import Augmentation
from common.data.batches import Batches
from common.data.folder import EvalPictures, FolderBatches, Pictures, TrainPictures, open_pictures
from common.data.sources import Images, open_images
from common.errors import UserError
from papers.sgnas.architectures import PUBLISHED, Kernels, Macro, macro_for
from papers.sgnas.describe import load_kernels

# The authors' constants, used for CIFAR-10 and CIFAR-100 alike.
CIFAR_MEAN, CIFAR_STD = (0.49139968, 0.48215827, 0.44653124), (0.2023, 0.1994, 0.2010)
SMALL_SETS = ("digits", "cifar10", "cifar100")
Loader = Batches | FolderBatches


@dataclass(frozen=True)
class Opened:
    """A data set's macro structure, classes, and pins."""

    macro: Macro
    classes: int
    pinned: bool
    pins: dict[str, str]


def is_small(name: str) -> bool:
    """Whether a set is held in memory (small squares) instead of being read picture by picture."""
    return name in SMALL_SETS or "@" in name or name == "imagenet16-120"


def open_set(name: str, split: str, options: Any) -> Images | Pictures:
    """Open an image set by name or path. ``PATH@SIZE`` holds a folder's pictures in memory at that size;
    ``cifar10@16`` is CIFAR at half its size.
    """
    plain, _, size = name.partition("@")
    if size and plain in SMALL_SETS:
        return _shrunk(open_images(plain, split, options), name, size)
    return open_images(name, split, options) if is_small(name) else open_pictures(name, split, options)


def _shrunk(images: Images, name: str, size: str) -> Images:
    """Block averages. Raises UserError for a size that does not divide the set's own."""
    if not size.isdigit() or int(size) < 1 or images.size % int(size):
        raise UserError(f"{name}: the part after @ must be a size that divides {images.size}, such as 16")
    factor = images.size // int(size)
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


def in_file_order(name: str) -> bool:
    """Whether a set comes as files whose order is mixed already (``cifar10@16``: the same at 16 x 16 pixels)."""
    return name.partition("@")[0] in SMALL_SETS


def augmentation(name: str, size: int = 32) -> Augmentation:
    """CIFAR: pad 4 (an eighth of ``size``), random crop, flip. Digits: a shift of up to 2 pixels and no flip."""
    if name.partition("@")[0] == "digits":
        return Augmentation(CIFAR_MEAN, CIFAR_STD, pad=2)
    return Augmentation(CIFAR_MEAN, CIFAR_STD, pad=size // 8, flip=True)


def split_indices(
    name: str, count: int, portion: float, train_images: int, search_images: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(supernet's, generator's) indices. CIFAR and digits: file order, the first floor(portion N) for the supernet.

    Other sets are listed class by class, so their order is shuffled first. ``search_images`` > 0 fixes the generator's
    share, for in-file sets from the end of their rest. Raises UserError when nothing is left.
    """
    order = np.arange(count)
    if not in_file_order(name):
        order = seeds.numpy_rng(seed, "search split").permutation(count)
    if in_file_order(name) or not search_images:
        cut = int(np.floor(portion * count))
    else:
        cut = count - search_images
    train, search = order[: max(cut, 0)], order[max(cut, 0) :]
    train = train[:train_images] if train_images else train
    search = search[:search_images] if search_images else search
    if not len(train) or not len(search):
        raise UserError(
            f"{name}: {count} images leave nothing for one of the splits; change --train-portion or --search-images"
        )
    return train, search


def per_process(batch_size: int) -> int:
    """A process's share of a batch. Raises UserError when it is not a whole number of images."""
    world = distributed.world_size()
    if batch_size % world:
        raise UserError(f"batch size {batch_size} is not divisible by {world} processes; change --batch-size")
    return batch_size // world


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
) -> Loader:
    """Batches of a set. kind: ``search`` (supernet), ``validation`` (generator), ``scratch`` or ``test``.

    Processes take turns with the batches of one sequence; of a test set each takes its share of the images, so that
    every image counts once.
    """
    test = kind == "test"
    rank, world = distributed.rank(), distributed.world_size()
    share = {} if test else {"rank": rank, "world": world}
    if test and world > 1:
        images = images.subset(range(rank, len(images), world))
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
