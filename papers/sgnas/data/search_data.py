"""The images of a search, shared out between supernet and generator, and the batches of both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from common.data.parts import fitting_batch, refuse_sizes
from common.errors import UserError
from common.run import distributed
from common.run.device import pick_device
from common.run.folder import say
from papers.sgnas.data import sets as datasets
from papers.sgnas.data.split import Provenance, Split, provenance_of
from papers.sgnas.networks.architectures import Macro
from papers.sgnas.settings import Searching

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


@dataclass(frozen=True)
class SearchData:
    """images: the whole set. train: the supernet's part of it. search: the generator's. validation: the same images as
    ``search``, drawn anew. provenance: all that decides which images the supernet sees.
    """

    images: datasets.ImageSet
    macro: Macro
    classes: int
    device: torch.device
    train: datasets.Loader
    search: datasets.Loader
    validation: datasets.Loader
    provenance: Provenance


def refuse_small(c: Searching, images: datasets.ImageSet, parts: int) -> None:
    """Raises UserError with sizes that fit, where the set is too small for the present ones."""
    count, classes = len(images), len(images.classes)
    portion, wanted = c.train_portion, c.search_images
    cut = int(portion * count) if portion < 1 else count - wanted
    if cut + wanted > count or min(cut, wanted or count - cut) < classes:
        portion, wanted, cut = 0.8, 0, int(0.8 * count)
    train, search = min(cut, c.train_images or cut), wanted or count - cut
    batch = fitting_batch(min(train, search), c.batch_size)
    fits: dict[str, float] = {"train_portion": portion, "search_images": wanted, "batch_size": batch}
    if batch < c.batch_size and 0 < batch < 2 * parts:
        fits["parts"] = 0
    refuse_sizes(images.name, count, classes, c, fits)


def open_search_data(c: Searching, options: RunOptions, parts: int = 0) -> SearchData:
    """Open the set and split it. A supernet that was trained before brings its split. parts: shares that the supernet's
    batches are normalised in, 0: one per process. Raises UserError.
    """
    device = pick_device(options)
    distributed.setup()
    images = datasets.open_set(c.dataset, "train", options)
    macro, classes = datasets.macro_of(c.dataset, images, c.macro), len(images.classes)
    split = Split(c.train_portion, c.train_images, c.search_images)
    if c.supernet:
        trained = provenance_of(Path(c.supernet))
        trained.check_set(c.dataset, images)
        trained.check_settings(c)
        split = trained.split
    else:
        refuse_small(c, images, parts)
    train, search = split.parts(images, c.search_images)
    if c.search_images and len(search) < c.search_images:
        raise UserError(
            f"--search-images {c.search_images:,}: the supernet's training left only {len(search):,} images"
        )
    statistics = datasets.pixel_statistics(c.dataset, images)
    provenance = Provenance(c.dataset, dict(images.pins), len(images), split, c.active, *statistics)
    say(
        f"{c.dataset}: {len(train):,} images for the supernet, {len(search):,} for the generator; {macro.name} "
        f"structure at {macro.input_size} pixels (--macro), {classes} classes"
    )
    batches = datasets.Loaders(c.dataset, options.seed, device, c.workers)
    return SearchData(
        images, macro, classes, device,
        train=batches(train, c.batch_size, "search", "supernet", parts=parts),
        search=batches(search, c.batch_size, "validation", "generator"),
        validation=batches(search, c.batch_size, "validation", "validation"),
        provenance=provenance,
    )  # fmt: skip
