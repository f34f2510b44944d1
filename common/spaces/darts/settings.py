"""Settings that every training of a derived DARTS network has; papers add and replace fields. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from common.settings import Settings, setting
from common.train.settings import checkpoint_setting


@dataclass(frozen=True)
class TrainDerived(Settings):
    """Training a derived network from scratch; the defaults are the CIFAR recipe of DARTS."""

    arch: str = setting("", "published name, or an architecture file of a search")
    checkpoint: str = checkpoint_setting()
    dataset: str = setting("cifar10", "cifar10, cifar100, digits, or a folder of class folders")
    train_images: int = setting(0, "so many training images only (the first in file order); 0: all", at_least=0)
    channels: int = setting(36, "initial channels C", at_least=1)
    layers: int = setting(20, "cells", at_least=1)
    auxiliary: bool = setting(True, "a second classifier after the second reduction, in training only")
    auxiliary_weight: float = setting(0.4, "weight of its loss", at_least=0)
    epochs: int = setting(600, "epochs", at_least=1)
    batch_size: int = setting(96, "images of a batch, of all processes together", at_least=1)
    parts: int = setting(
        0, "shares that every batch is worked through in, a multiple of the processes; 0: one per process", at_least=0
    )
    eval_batch_size: int = setting(96, "images of a batch in tests", at_least=1)
    eval_every: int = setting(1, "epochs between tests; the last epoch is always tested", at_least=1)
    lr: float = setting(0.025, "learning rate of the first epoch", at_least=0)
    momentum: float = setting(0.9, "momentum of SGD", at_least=0, below=1)
    weight_decay: float = setting(3e-4, "weight decay of SGD", at_least=0)
    clip: float = setting(5.0, "total norm that gradients are cut to; 0: off", at_least=0)
    drop_path: float = setting(
        0.2, "drop-path probability that grows from 0 in proportion to the epoch", at_least=0, below=1
    )
