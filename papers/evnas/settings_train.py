"""Settings of training, evaluation, description and drawing; defaults are the published recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import tyro


@dataclass(frozen=True)
class TrainSettings:
    """CIFAR-10/100 recipe of the published networks."""

    arch: str = "EvNASA"  # published name, or an architecture file of a search
    dataset: str = "cifar10"  # cifar10, cifar100, digits, or a folder of class folders
    train_images: int = 0  # so many images of the training set only (the first of a set in file order); 0 = all
    channels: int = 36
    layers: int = 20
    auxiliary: bool = True
    auxiliary_weight: float = 0.4
    epochs: int = 600
    batch_size: int = 96
    parts: int = 0  # shares that every batch is worked through in, a multiple of the processes; 0: one per process
    eval_batch_size: int = 96
    lr: float = 0.025  # cosine to 0, constant inside an epoch
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    drop_path: float = 0.2  # in the last epoch; grows from 0 in proportion to the epoch
    pad: int = 4
    flip: bool = True
    cutout: int = 16
    evaluate_every: int = 1  # epochs between tests; the last epoch is always tested


@dataclass(frozen=True)
class TrainImageNetSettings:
    """ImageNet recipe: the released program's defaults (P-DARTS's)."""

    arch: str = "EvNASA"
    dataset: str = "imagenet"  # or a folder of class folders, or an .lmdb file
    channels: int = 48
    layers: int = 14
    auxiliary: bool = True
    auxiliary_weight: float = 0.4
    epochs: int = 250
    batch_size: int = 256
    parts: int = 0  # as in the CIFAR recipe
    eval_batch_size: int = 256
    schedule: Literal["linear", "cosine"] = "linear"  # cosine: as the released program steps it, an epoch ahead
    lr: float = 0.1
    warmup_epochs: int = 5  # only for batches of more than 256 images
    momentum: float = 0.9
    weight_decay: float = 3e-5
    clip: float = 5.0
    label_smoothing: float = 0.1
    drop_path: float = 0.0
    evaluate_every: int = 1
    workers: int = field(default=8, metadata={"result": False})


@dataclass(frozen=True)
class EvaluateSettings:
    """Test error of trained weights: one's own or the authors' checkpoint."""

    arch: str = ""  # published name or architecture file; empty: what the weights say of themselves
    dataset: str = "cifar10"
    checkpoint: str = ""
    weights: Literal["auto", "ema", "raw"] = "auto"  # of a file that holds averaged and raw weights
    channels: int = 0  # 0: the width of the checkpoint
    layers: int = 0  # 0: the depth of the checkpoint
    batch_size: int = 0  # 0: 96 for CIFAR, 128 for ImageNet (metrics do not depend on it)
    workers: int = field(default=8, metadata={"result": False})


@dataclass(frozen=True)
class DescribeSettings:
    """Size of a network."""

    arch: tyro.conf.Positional[str] = "EvNASA"  # a published name, an architecture file, or weights of one's own
    dataset: str = ""  # cifar10, cifar100, digits or imagenet; empty: the set that a file names, else cifar10


@dataclass(frozen=True)
class DrawSettings:
    """Pictures of an architecture's cells."""

    arch: tyro.conf.Positional[str] = "EvNASA"
    format: Literal["svg", "png", "pdf", "dot"] = "svg"
