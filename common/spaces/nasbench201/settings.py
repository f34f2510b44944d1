"""Settings of what both papers do with cells of NAS-Bench-201. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from common.errors import UserError
from common.settings import Settings, setting
from common.train.settings import checkpoint_setting


@dataclass(frozen=True)
class Lookup(Settings):
    """Accuracies of cells in the benchmark's tables."""

    cells: tyro.conf.Positional[tuple[str, ...]] = setting(
        (),
        "architecture strings (in quotes), six digits, indices, architecture files, folders of runs; several at once",
    )


@dataclass(frozen=True)
class TrainCell(Settings):
    """A cell in the benchmark's network, by the benchmark's recipe (its ``H``); ``--epochs 12`` is its short form."""

    arch: str = setting(
        "", "architecture string (in quotes), six digits, an index, an architecture file, a run's folder"
    )
    checkpoint: str = checkpoint_setting()
    dataset: str = setting("cifar10", "cifar10, cifar100, imagenet16-120, digits, or a folder of class folders")
    split: Literal["whole", "halves"] = setting(
        "whole", "whole: train on all training images; halves: on the benchmark's first half, validated on the second "
        "(its cifar10-valid)",
    )  # fmt: skip
    train_images: int = setting(0, "so many training images only (the first in file order); 0: all", at_least=0)
    channels: int = setting(16, "channels C of the first stage", at_least=1)
    cells_per_stage: int = setting(5, "cells N of each of the three stages", at_least=1)
    epochs: int = setting(200, "epochs; the tables have 200 and 12", at_least=1)
    batch_size: int = setting(256, "images of a batch, of all processes together", at_least=1)
    parts: int = setting(
        0, "shares that every batch is worked through in, a multiple of the processes; 0: one per process", at_least=0
    )
    eval_batch_size: int = setting(256, "images of a batch in tests", at_least=1)
    eval_every: int = setting(1, "epochs between tests; the last epoch is always tested", at_least=1)
    lr: float = setting(0.1, "learning rate of the first epoch; it falls to 0 along a cosine, by the epoch", at_least=0)
    momentum: float = setting(0.9, "momentum of SGD", at_least=0, below=1)
    nesterov: bool = setting(True, "Nesterov's form of the momentum")
    weight_decay: float = setting(5e-4, "weight decay of SGD, on all parameters", at_least=0)
    pad: int = setting(
        -1, "zero pixels around the image before the random crop; -1: an eighth of its side (4 for 32)", at_least=-1
    )
    flip: bool = setting(True, "mirror half of the images")

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError for Nesterov's form without momentum."""
        if self.nesterov and not self.momentum:
            raise UserError("Nesterov's form needs a momentum; raise --momentum above 0 or add --no-nesterov")
