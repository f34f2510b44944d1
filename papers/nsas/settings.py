"""Settings of every stage; defaults are the published run's values.

No torch here, so that ``--help`` is instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro


@dataclass(frozen=True)
class SearchRandomSettings:
    """RandomNAS-NSAS in the DARTS space (May 2020 run: 50 epochs, M = 4, softmax table)."""

    dataset: str = "cifar10"
    train_images: int = 0  # first images of the training set that are used at all; 0 = all
    train_portion: float = 0.5  # first part trains weights, the rest selects
    constraint: Literal["nsas", "nsas-c"] = "nsas"
    inputs: Literal["released", "distinct", "published"] = "released"  # input patterns of the sampler
    constraint_gradient: bool = False  # False: constraint losses are plain numbers, as released
    table: Literal["softmax", "raw"] = "softmax"  # softmax of the 0/1 table (2019/20) or the table itself (head)
    constraints: int = 4  # M; 8 at the head
    recent: int = 50  # C
    neighbours: int = 10  # k
    mix: float = 0.5  # (1 - mix) current + mix mean(constraints)
    unsampled_statistics: bool = True  # raw table: also move batch-norm statistics of operations that were not sampled
    channels: int = 16
    layers: int = 8
    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 0.025
    learning_rate_min: float = 0.001
    shifted_lr: bool = False  # scheduler stepped first on torch >= 1.1: epoch e ran with lr(e + 1)
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    select_rounds: int = 5
    select_candidates: int = 100  # 1000 in the May 2020 run, 10 at the head
    select_images: int = 0  # images of the selection half; 0 = all
    select_batch_size: int = 100
    select_augment: bool = True  # the released selection half gets crop and flip
    recalibrate_batches: int = 0  # batches that renew batch-norm statistics before a candidate is scored
    monitor: bool = False  # after every epoch score the four cells that the 2019 notebook watched


@dataclass(frozen=True)
class SearchGdasSettings:
    """GDAS-NSAS in the DARTS space (2019 semantics: weighted constant, unrolled architecture step, tables restored)."""

    dataset: str = "cifar10"
    train_images: int = 10_000  # a fifth of CIFAR-10, as in the 2019 notebook; 0 = all (head)
    train_portion: float = 0.5
    constraint: Literal["nsas", "nsas-c"] = "nsas"
    semantics: Literal["2019", "head"] = (
        "2019"  # head: plain architecture step, CE alone, tables overwritten by the draw
    )
    constraint_gradient: bool = False
    weighted: bool = True  # similarity-weighted recursion; False: plain mean
    table: Literal["softmax", "raw"] = "softmax"
    constraints: int = 8
    recent: int = 50
    neighbours: int = 10
    mix: float = 0.5
    channels: int = 16
    layers: int = 8
    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 0.025
    learning_rate_min: float = 0.001
    shifted_lr: bool = False
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    arch_learning_rate: float = 3e-4
    arch_weight_decay: float = 1e-3


@dataclass(frozen=True)
class NotReleasedSettings:
    """A combination that the authors never released."""

    dataset: str = ""


@dataclass(frozen=True)
class TrainSettings:
    """A derived CNN; CIFAR values. The two ImageNet recipes are variants (imagenet-step, imagenet-linear)."""

    arch: str = "Random_NSAS"
    dataset: str = "cifar10"
    network: Literal["auto", "cifar", "imagenet"] = "auto"  # auto: imagenet for pictures of 128 pixels and more
    train_images: int = 0
    channels: int = 36
    layers: int = 20
    auxiliary: bool = True
    auxiliary_weight: float = 0.4
    drop_path: float = 0.2
    cutout: int = 16
    label_smoothing: float = 0.0
    epochs: int = 600
    batch_size: int = 96  # images of all processes together
    parts: int = 0  # shares every batch is worked through in, a multiple of the processes; 0: one per process
    eval_batch_size: int = 250
    schedule: Literal["cosine", "step", "linear"] = "cosine"
    learning_rate: float = 0.025
    learning_rate_min: float = 0.0
    shifted_lr: bool = False
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    evaluate_every: int = 1
    workers: int = 4


@dataclass(frozen=True)
class EvaluateSettings:
    """A trained derived CNN on its test set."""

    arch: str = ""  # default: that of the file, if it says so
    checkpoint: str = ""
    weights: Literal["auto", "ema", "raw"] = "auto"  # which of a container's weights
    dataset: str = "cifar10"  # unless given: the file's own, or that of released files with so many classes
    channels: int = 0  # 0: as in the file
    layers: int = 0
    batch_size: int = 250
    workers: int = 4


@dataclass(frozen=True)
class DescribeSettings:
    """Counts of a published or found architecture."""

    arch: tyro.conf.Positional[str] = "Random_NSAS"
    dataset: str = ""


@dataclass(frozen=True)
class DrawSettings:
    """Drawings of the cells of an architecture."""

    arch: tyro.conf.Positional[str] = "Random_NSAS"
    recurrent: bool = False
    format: Literal["pdf", "png", "svg", "dot"] = "pdf"
