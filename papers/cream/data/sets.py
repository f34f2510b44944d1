"""Image sets of search and training: whole, in parts, and the subset of the rank-correlation study.

The subset is by rule the first 100 classes and 350 pictures each. The README of the original says 100 random classes
with 250 training and 50 validation pictures; its list holds the *first* folders and file names in sorted order, and no
split of the 350 was ever published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.data.names import in_memory
from common.data.parts import fitting_batch, fitting_part, refuse_sizes, split, take
from common.data.pictures.sets import Pictures, open_pictures
from common.data.sets import Images, open_images
from common.errors import UserError
from common.run import distributed
from papers.cream.networks.layout import SMALLEST_INPUT
from papers.cream.settings import Search, TrainingBatches

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

SAMPLED = 8  # pictures looked at when a set is opened
Source = Images | Pictures


class Parts(NamedTuple):
    """What a search trains on, what it holds out to score paths on (or None), and what it is tested on."""

    train: Source
    held_out: Source | None
    test: Source


CLASSES, PER_CLASS = 100, 350


def open_source(dataset: str, split: str, resolution: int, options: RunOptions) -> Source:
    """Images in memory for the small sets (and ``FOLDER@SIZE``), pictures on disk for everything else.

    Raises UserError when the resolution is too small for the network, or larger than images in memory.
    """
    if resolution < SMALLEST_INPUT:
        raise UserError(
            f"resolution {resolution} is too small: the network halves the image five times, use >= {SMALLEST_INPUT}"
        )
    if in_memory(dataset):
        images = open_images(dataset, split, options)
        if images.size < resolution:
            raise UserError(f"{dataset}: images of {images.size} pixels are smaller than --resolution {resolution}")
        if images.size > resolution:
            raise UserError(f"{dataset}: images of {images.size} pixels are not scaled; use --resolution {images.size}")
        return images
    pictures = open_pictures(dataset, split, options)
    _check_sizes(pictures, resolution)
    return pictures


def _check_sizes(pictures: Pictures, resolution: int) -> None:
    """A few pictures, spread over the set, tell a set of small ones from one with a small one among large ones."""
    at = np.linspace(0, len(pictures) - 1, min(len(pictures), SAMPLED)).astype(int)
    largest = max((min(pictures.picture(i).size) for i in at), default=resolution)
    if largest < resolution:
        raise UserError(
            f"{pictures.name}: pictures of {largest} pixels are smaller than --resolution {resolution}; append "
            f"@{resolution} to the set's name to resize them, or lower it to {largest}"
        )


def labels_of(source: Source) -> Tensor:
    """Labels [N] of a set."""
    return torch.as_tensor(source.labels)


def subset(source: Source, classes: int, per_class: int) -> Source:
    """The rank-correlation subset by rule, as released; 0 classes: the whole set."""
    if not classes:
        return source
    return first_classes(source.subset(subset_indices(labels_of(source).tolist(), classes, per_class)), classes)


def first_classes(source: Source, classes: int) -> Source:
    """The images of the first classes, which are then all the classes there are (0: the set as it is)."""
    if not classes or classes >= len(source.classes):
        return source
    kept = source.subset(np.flatnonzero(labels_of(source).cpu().numpy() < classes))
    return replace(kept, classes=source.classes[:classes])  # type: ignore[type-var]


def search_parts(settings: Search, resolution: int, options: RunOptions, judging: str = "val") -> Parts:
    """The parts of a search's set; judging: the split that is tested on, ``val`` for the check of an epoch."""
    train = open_source(settings.dataset, "train", resolution, options)
    train = subset(train, settings.subset_classes, settings.subset_images)
    train = take(train, settings.train_images, "--train-images")
    refuse_small(settings, train)
    test = first_classes(open_source(settings.dataset, judging, resolution, options), settings.subset_classes)
    if not settings.holdout:
        return Parts(train, None, test)
    searched, held_out = split(train, -settings.holdout, "--holdout")
    return Parts(searched, held_out, test)


def refuse_small(settings: Search, train: Source) -> None:
    """Raises UserError with sizes that fit, where the set is too small for a batch or the part held out of it."""
    images, classes = len(train), len(train.classes)
    held = fitting_part(images, classes, settings.holdout)
    fits = fitting_shares(settings, images - held)
    share = fits["batch_size"] // (fits["parts"] or distributed.world_size())
    kept = fits["batch_size"] == settings.batch_size or share >= 2 * settings.slice
    slice_ = settings.slice if kept else max(1, share // 2)
    refuse_sizes(train.name, images, classes, settings, {"holdout": held, **fits, "slice": slice_})


def fitting_shares(settings: TrainingBatches, images: int) -> dict[str, int]:
    """Batch size and parts for so many training images: the present ones, or such that fit."""
    batch = fitting_batch(images, settings.batch_size)
    if batch == settings.batch_size or batch // (settings.parts or distributed.world_size()) >= 2:
        return {"batch_size": batch, "parts": settings.parts}
    return {"batch_size": batch, "parts": 0}


def subset_names(names: Mapping[str, Sequence[str]], classes: int = CLASSES, per_class: int = PER_CLASS) -> list[str]:
    """File names of the subset: first ``classes`` class folders, first ``per_class`` names of each, both sorted.

    names: class folder -> its file names. Raises UserError when there are too few of either.
    """
    chosen = sorted(names)[:classes]
    if len(chosen) < classes:
        raise UserError(f"the subset needs {classes} classes, found {len(chosen)}; lower --subset-classes")
    result = []
    for wnid in chosen:
        if len(names[wnid]) < per_class:
            raise UserError(f"class {wnid} has {len(names[wnid])} pictures, the subset needs {per_class} of each class")
        result += sorted(names[wnid])[:per_class]
    return result


def subset_indices(labels: Sequence[int], classes: int = CLASSES, per_class: int = PER_CLASS) -> list[int]:
    """The same rule on pictures already listed in sorted order: positions of the first of each of the first classes."""
    taken: dict[int, int] = {}
    result = []
    for position, label in enumerate(labels):
        if label < classes and taken.get(int(label), 0) < per_class:
            taken[int(label)] = taken.get(int(label), 0) + 1
            result.append(position)
    if len(taken) < classes or min(taken.values(), default=0) < per_class:
        raise UserError(f"the subset needs {classes} classes with {per_class} pictures each; this set is too small")
    return result
