"""What both phases of the search share: data, split, device, tables and priors, checked before an epoch is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.cli.errors import UserError
from common.cli.ranges import refuse_idle
from common.run.files import write_json
from common.run.folder import say
from common.train import distributed
from common.train.device import pick_device
from papers.sgnas.data import sets as datasets
from papers.sgnas.data.split import Provenance, provenance_of
from papers.sgnas.method.lookup import Lookup, cost_range
from papers.sgnas.method.prior import PriorPool, make_pool, pool_from, read_pool
from papers.sgnas.network.architectures import Macro
from papers.sgnas.ranges import check_ranges
from papers.sgnas.settings import SearchSettings

SUPERNET_ONLY = (
    "supernet_epochs", "paths", "gradients", "learning_rate", "momentum", "weight_decay", "cosine_epochs",
    "bn_momentum", "parts",
)  # fmt: skip
GENERATOR_ONLY = (
    "generator_epochs", "low", "high", "target_step", "target_noise", "validation_step", "alpha", "loss_penalty",
    "accept_loss", "tau", "tau_decay", "generator_lr", "targets_per_step", "constraint_channels", "width",
    "generator_layers", "pool_size", "prior_seed", "prior_tolerance", "prior_pool", "latency_table", "recalibrate",
    "targets",
)  # fmt: skip


@dataclass
class Setting:
    """train: the supernet's images. search: the generator's. validation: the same as ``search``, drawn anew."""

    settings: SearchSettings
    device: torch.device
    precision: str
    seed: int
    macro: Macro
    classes: int
    train: datasets.Loader
    search: datasets.Loader
    validation: datasets.Loader
    provenance: Provenance
    pinned: bool
    pins: dict[str, str]


def check_settings(c: SearchSettings, phases: tuple[str, ...], given: frozenset[str] | None) -> None:
    """Raises UserError for a setting out of range, one that the phases do not use, and for targets where the generator
    is not trained.
    """
    check_ranges(c)
    if "generator" not in phases:
        if c.supernet_epochs < 1:
            raise UserError("no supernet epoch is wanted; set --supernet-epochs to 1 or more, or use search-generator")
        refuse_idle(c, dict.fromkeys(GENERATOR_ONLY, "search and search-generator"), given or frozenset())
        return
    if c.generator_epochs < 1:
        raise UserError("no generator epoch is wanted; set --generator-epochs to 1 or more, or use search-supernet")
    if "supernet" not in phases:
        if not c.supernet:
            raise UserError("a generator-only search needs a trained supernet: --supernet FOLDER/supernet.safetensors")
        refuse_idle(c, dict.fromkeys(SUPERNET_ONLY, "search and search-supernet"), given or frozenset())
    elif c.supernet_epochs < 1 and not c.supernet:
        raise UserError(
            "no supernet epoch is wanted; set --supernet-epochs to 1 or more, or give a trained one with --supernet"
        )
    if c.prior_pool:
        drawn = dict.fromkeys(("pool_size", "prior_seed", "prior_tolerance"), "a pool that is drawn (no --prior-pool)")
        refuse_idle(c, drawn, given or frozenset())
    check_targets(c)


def check_targets(c: SearchSettings) -> None:
    """Raises UserError when the architectures wanted at the end lie where the generator is not trained."""
    if not c.low < c.high:
        raise UserError(f"--low {c.low:g} is not below --high {c.high:g}")
    if not c.targets:
        raise UserError("no targets; give at least one, such as --targets 320")
    for target in c.targets:
        if not c.low <= target <= c.high:
            raise UserError(
                f"target {target:g} is outside the range {c.low:g} to {c.high:g} that the generator is trained for, "
                f"where its answer saturates or turns round; change --targets, or widen --low and --high"
            )


def prepare(c: SearchSettings, options: Any) -> Setting:
    """Open the data and split it: the supernet's images, and those for training and choosing the generator. A supernet
    that was trained before brings its split.
    """
    device = pick_device(options)
    distributed.setup()
    images = datasets.open_set(c.dataset, "train", options)
    opened = datasets.describe_set(c.dataset, images, c.macro)
    split = datasets.Split(c.train_portion, c.train_images, c.search_images)
    if c.supernet:
        trained = provenance_of(Path(c.supernet))
        trained.check_set(c.dataset, images)
        trained.check_settings(c)
        split = trained.split
        train, search = trained.split.parts(images, c.search_images)
    else:
        train, search = split.parts(images)
    if c.search_images and len(search) < c.search_images:
        raise UserError(
            f"--search-images {c.search_images:,}: the supernet's training left only {len(search):,} images"
        )
    constants = datasets.constants(c.dataset, images)
    provenance = Provenance(c.dataset, opened.pins, len(images), split, c.active, *constants)
    say(
        f"{c.dataset}: {len(train):,} images for the supernet, {len(search):,} for the generator; {opened.macro.name} "
        f"structure at {opened.macro.input_size} pixels (--macro), {opened.classes} classes"
    )
    share = (c.batch_size, options.seed, device)

    def loader(part: Any, kind: str, stream: str, shares: int = 0) -> datasets.Loader:
        return datasets.loader(c.dataset, part, *share, kind, stream, c.workers, shares=shares)

    return Setting(
        c,
        device,
        options.precision,
        options.seed,
        opened.macro,
        opened.classes,
        loader(train, "search", "supernet", c.parts),
        loader(search, "validation", "generator"),
        loader(search, "validation", "validation"),
        provenance,
        opened.pinned,
        opened.pins,
    )


def prior_pool(folder: Path, c: SearchSettings, lookup: Lookup) -> PriorPool:
    """The pool named in the settings, the run's own, or a fresh one; checked against range and table."""
    cheapest, dearest = cost_range(lookup)
    if c.high < cheapest or c.low > dearest:
        raise UserError(
            f"targets {c.low:g} to {c.high:g} lie outside this space ({cheapest:.1f} to {dearest:.1f} {lookup.unit})"
        )
    own = folder / "prior_pool.json"
    if c.prior_pool or own.exists():
        pool = read_pool(Path(c.prior_pool) if c.prior_pool else own, c.low, c.high)
        pool.check(c.low, c.high, lookup)
        return pool
    pool = make_pool(lookup, c.low, c.high, c.pool_size, np.random.RandomState(c.prior_seed), c.prior_tolerance)
    if distributed.rank() == 0:
        write_json(own, pool.to_json())
    return pool_from(pool.to_json(), str(own))
