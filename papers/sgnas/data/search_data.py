"""The images of a search, shared out between supernet and generator, and the batches of both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError
from common.run import distributed
from common.run.device import pick_device
from common.run.folder import say
from papers.sgnas.data import sets as datasets
from papers.sgnas.data.split import Provenance, Split, provenance_of
from papers.sgnas.networks.architectures import Macro
from papers.sgnas.settings import Searching


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


def open_search_data(c: Searching, options: Any, parts: int = 0) -> SearchData:
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
