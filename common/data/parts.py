"""Taking parts of a set: size limits, holdouts, the halves of a search.

Sets that were published as files in a mixed order (CIFAR, ImageNet16, the digits) are cut in that order, as the authors
cut them. Folders and LMDB files list one class after the other; they get an order first in which the classes take turns
(fixed by the set and a seed), so that every part at either end holds every class in proportion. A part that lacks a
class is refused: nothing trained or measured on it would mean anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from common.data.nasbench201 import halves
from common.data.pictures.batches import Pictures
from common.data.sets import Images
from common.errors import UserError
from common.run import seeds

Set = TypeVar("Set", Images, Pictures, Images | Pictures)
FILE_ORDER = ("digits", "cifar10", "cifar100", "imagenet16-120")


def in_file_order(source: Images | Pictures) -> bool:
    """Whether a set came as files whose order is mixed already."""
    return isinstance(source, Images) and source.name in FILE_ORDER


def order(source: Images | Pictures, seed: int = 0) -> np.ndarray:
    """The positions of a set's images in the order in which parts are cut from it, int64 [N].

    As they come for sets in file order. For others image r of a class of n (the class shuffled by the seed) stands at
    r / (n - 1) between the set's ends: any part at an end that has as many images as there are classes holds them all.
    """
    labels = _labels(source)
    if in_file_order(source):
        return np.arange(len(labels))
    rng = seeds.numpy_rng(seed, "classes in turn", len(labels))
    mixed = rng.permutation(len(labels))
    by_class = mixed[np.argsort(labels[mixed], kind="stable")]
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    place = np.empty(len(labels))
    place[by_class] = rank / np.maximum(np.repeat(counts, counts) - 1, 1)
    return np.lexsort((rng.random_sample(len(labels)), place))


def take(source: Set, count: int, what: str, seed: int = 0) -> Set:
    """The first ``count`` images of the set's order; 0, or no fewer than there are, gives the whole set as it is.

    what: the setting that limits it, for messages, such as ``--train-images``. Raises UserError for a negative number
    and for a part that lacks a class.
    """
    if count < 0:
        raise UserError(f"{what} must be 0 (all images) or more, not {count}")
    if not count or count >= len(source):
        return source
    places = order(source, seed)
    _check(source, places, count, what, first=True)
    return source.subset(places[:count])


def split(source: Set, at: float, what: str, seed: int = 0) -> tuple[Set, Set]:
    """The two parts of the set's order on either side of a cut.

    at: a share between 0 and 1 (the first part has floor(at N) images), the number of images in the first part (1 or
    more, an int), or, negative, of those in the second. what: the setting that says so, for messages. Raises UserError
    for a part that is empty or lacks a class.
    """
    count = len(source)
    share = isinstance(at, float)
    if share and not 0 < at < 1:
        raise UserError(f"{what} must be a share between 0 and 1, not {at:g}")
    cut = int(np.floor(at * count)) if share else int(at) + (count if at < 0 else 0)
    if not 0 < cut < count:
        raise UserError(f"{source.name}: {what} {abs(at):g} leaves nothing of its {count} images for one of two parts")
    places = order(source, seed)
    _check(source, places, cut, what, first=True)
    _check(source, places, cut, what, first=False)
    return source.subset(places[:cut]), source.subset(places[cut:])


def benchmark_halves(source: Set, seed: int, test: bool = False) -> tuple[Set, Set, str]:
    """The two halves of a NAS-Bench-201 search, and where they come from: ``official`` or ``fallback``.

    test: whether ``source`` is a test set (whose halves the benchmark has for CIFAR-100 and ImageNet16-120). Whole
    official sets are cut as the benchmark cuts them, others in file order at random, a function of the seed; of a
    folder the halves hold the same share of every class. Raises UserError for a half that lacks a class.
    """
    name, origin = f"{source.name}-test" if test else source.name, "fallback"
    if in_file_order(source):
        first, second, origin = halves(name, len(source), seed)
    else:
        places = order(source, seed)
        first, second = places[: len(places) // 2], places[len(places) // 2 :]
    one, other = source.subset(first), source.subset(second)
    for part in (one, other):
        check_classes(part, source, "one half")
    return one, other, origin


def check_classes(part: Images | Pictures, whole: Images | Pictures, what: str) -> None:
    """For parts drawn by a paper's own rule. Raises UserError when ``part`` lacks a class that ``whole`` has."""
    missing = np.setdiff1d(_labels(whole), _labels(part))
    if len(missing):
        raise UserError(f"{_lacking(whole, missing, what, len(part))}; use more images")


def _labels(source: Images | Pictures) -> np.ndarray:
    return np.asarray(source.labels.cpu() if isinstance(source, Images) else source.labels)


def _lacking(source: Images | Pictures, missing: np.ndarray, what: str, images: int) -> str:
    several = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return (
        f"{source.name}: {what} gives a part of {images} images without class {source.classes[missing[0]]!r}{several}"
    )


def _check(source: Images | Pictures, places: np.ndarray, cut: int, what: str, first: bool) -> None:
    """Raises UserError, with the least size, when the part before (``first``) or after the cut lacks a class."""
    labels = _labels(source)[places]
    part = labels[:cut] if first else labels[cut:]
    missing = np.setdiff1d(labels, part)
    if not len(missing):
        return
    ordered = labels if first else labels[::-1]
    least = 1 + max(int(np.argmax(ordered == label)) for label in np.unique(labels))
    remedy = f"it needs at least {least}" if least < len(labels) else "give that class more images"
    raise UserError(f"{_lacking(source, missing, what, len(part))}; {remedy}")


HELD = 5  # a part that is held out of a small set is a fifth of it


def fitting_batch(images: int, asked: int) -> int:
    """The batch size that is asked for where there are as many images, else about the largest power of two that
    gives two batches; never one that leaves a last batch of a single image, which has no statistics.
    """
    if asked <= images:
        return asked
    batch = max(2, 1 << max(0, (images // 2).bit_length() - 1))
    while batch > 2 and images % batch == 1:
        batch -= 1
    return images if images % batch == 1 else min(batch, images)


def fitting_part(images: int, classes: int, asked: int) -> int:
    """The size of a part that is asked for where every class fits into it and into the rest, else a fifth of the
    images, as many of every class (0 stays 0).
    """
    if not asked or classes <= asked <= images - classes:
        return asked
    return max(classes, images // HELD // classes * classes)


def refuse_sizes(name: str, images: int, classes: int, settings: Any, fits: Mapping[str, Any]) -> None:
    """Raise UserError where settings are not what fits, with every one that must be changed and its value.

    fits: setting -> a value that fits, the present one where it does.
    """
    changes = {key: value for key, value in fits.items() if getattr(settings, key) != value}
    if changes:
        flags = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in changes.items())
        raise UserError(
            f"{name}: {images} training images of {classes} classes are too few for the present sizes; use {flags}"
        )
