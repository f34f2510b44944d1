"""Settings of every stage; the defaults are the values of the run behind the published numbers (the code of 2020).

No torch here, so that ``--help`` is instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro


@dataclass(frozen=True)
class SearchSettings:
    """Supernet training with prioritized paths (train.yaml of the release)."""

    method: Literal["cream", "random"] = "cream"  # random: plain uniform single paths, then the best of random paths
    dataset: str = "imagenet"  # imagenet, tiny-imagenet-20, digits, cifar10, cifar100, a folder, or an .lmdb
    train_images: int = 0  # first images of the training set that are used at all; 0 = all
    holdout: int = 0  # last of them kept out of the search, for re-scoring the board
    subset_classes: int = 0  # rank-correlation subset: first classes x first images of each (100 x 350); 0 = off
    subset_images: int = 350
    resolution: int = 224
    apply_resolution: bool = False  # train at the resolution the window yields (released code only logs it)
    workers: int = 4
    macs_min: float = 0.0  # window in millions, by the search's own table at 224
    macs_max: float = 600.0
    enforce_window: bool = False  # redraw paths outside the window and keep them off the board
    resunit: bool = False  # larger space: residual unit as an extra choice
    dil_conv: bool = False  # larger space: two narrow inverted residuals as extra choices
    pool: Literal["avg", "max", "avgmax", "catavgmax"] = "avg"
    sampling: Literal["uniform", "weighted"] = "uniform"
    probabilities: tuple[float, ...] = (0.05, 0.2, 0.05, 0.5, 0.05, 0.15)  # by choice, when weighted
    epochs: int = 120
    batch_size: int = 1024  # the whole batch: 8 GPUs x 128
    parts: int = 8  # shares of the batch, one per GPU of the original: batch normalisation sees one share at a time
    lr: float = 1.0
    meta_lr: float = 1e-4
    lr_rule: Literal["sane", "released"] = "sane"  # LR (1 - t/T), or LR (LR - t/T); the same at LR = 1
    schedule_images: int = 0  # images per epoch in T; 0: those of its batches (ImageNet: 1,280,000, as released)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    smoothing: float = 0.1
    start_epoch: int = 20  # board, distillation and meta updates come in the epochs after this one (0-based)
    update_every: int = 0  # iterations between meta updates; 0: 200 on ImageNet, as often an epoch elsewhere
    pool_size: int = 10
    acc_gap: float = 5.0  # percentage points
    slice: int = 4  # images of a batch stored with a board entry, and used by each half of a meta update
    meta_value: Literal["last_negated", "argmax_positive"] = "last_negated"
    meta_gradient: Literal["first", "all"] = "first"
    meta_weights: Literal["in_place", "clean"] = "in_place"
    step_sign: Literal["minus", "plus"] = "plus"  # of the simulated step; the later state of the code has minus
    pick: Literal["meta", "top1"] = "meta"  # top1: the board's head teaches, m = 0.5, and no meta update is made
    stored: Literal["teacher", "own"] = "teacher"  # probabilities stored with a new entry
    idle: Literal["move", "freeze"] = "move"  # parameters off the path: zero-filled gradients, or none
    crop: Literal["resized", "padded"] = "resized"  # random resized crop; padded: zeros around, for images in memory
    pad: int = 4  # of the padded crop
    scale_min: float = 0.08  # smallest area of the random resized crop
    flip: bool = True
    jitter: float = 0.4
    erasing: float = 0.2
    choose: Literal["head", "rescore"] = "head"  # final architecture: head of the last board, or ``select``'s rule
    recalibrate_batches: int = 8  # of one share of batch_size; for rescore and the random baseline
    select_images: int = 5000  # images a candidate is scored on: of the holdout, else of the training set
    candidates: int = 0  # random paths of the baseline; 0 = pool_size


HEAD_SEARCH = {"step_sign": "minus"}  # the released code as it stands since July 2021
MODERN_SEARCH = {
    "step_sign": "minus",
    "meta_value": "argmax_positive",
    "meta_gradient": "all",
    "meta_weights": "clean",
    "stored": "own",
    "idle": "freeze",
    "apply_resolution": True,
    "enforce_window": True,
    "choose": "rescore",
    "holdout": 10_000,
}
PAPER_SEARCH = {
    "step_sign": "minus",
    "meta_value": "argmax_positive",
    "meta_gradient": "all",
    "meta_weights": "clean",
    "stored": "own",
}


@dataclass(frozen=True)
class SelectSettings:
    """Choose again among the paths a finished search left on its board."""

    search: str = ""  # folder of the search
    rule: Literal["head", "rescore"] = "rescore"
    recalibrate_batches: int = 8
    select_images: int = 5000
    macs_min: float = 0.0  # 0: as the search
    macs_max: float = 0.0  # 0: as the search


@dataclass(frozen=True)
class Recipe:
    """How a network is trained from scratch ("retrain"); schedule auto: step for 14 and 43, cosine otherwise."""

    workers: int = 4
    epochs: int = 500  # without cool-down
    cooldown: int = 10  # further epochs at the minimum rate (cosine only)
    batch_size: int = 1024  # the whole batch: 8 GPUs x 128
    parts: int = 8  # shares of the batch, one per GPU of the original: batch normalisation sees one share at a time
    schedule: Literal["auto", "cosine", "step", "none"] = "auto"
    lr: float = 0.064
    min_lr: float = 1e-5
    warmup_lr: float = 1e-6
    warmup_epochs: int = 3
    decay_epochs: float = 2.4
    decay_rate: float = 0.973
    optimizer_eps: float = 1e-3
    alpha: float = 0.9
    momentum: float = 0.9
    weight_decay: float = 1e-5
    dropout: float = 0.2
    ema_decay: float = 0.9999
    smoothing: float = 0.1
    crop: Literal["resized", "padded"] = "resized"
    pad: int = 4
    scale_min: float = 0.08
    flip: bool = True
    randaugment: float = 9.0  # magnitude; 0 = off
    randaugment_operations: int = 2
    randaugment_std: float = 0.5
    erasing: float = 0.2
    eval_batch_size: int = 512
    eval_every: int = 1
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"  # of the test pictures


@dataclass(frozen=True)
class TrainSettings(Recipe):
    """Training from scratch of one network."""

    arch: str = ""  # 14, 43, 114, 287, 481, 604, a path list, or an architecture file
    single_block: Literal["auto", "default", "strict"] = "auto"  # auto: default for the published paths, else strict
    repeat_stage3: bool = False  # a fourth stage-3 entry builds two blocks (the lists of 2020)
    dataset: str = "imagenet"
    train_images: int = 0
    resolution: int = 0  # 0: that of the published network, else of the architecture file, else 224


GENERIC_TRAIN = {  # the original's retrain.yaml, which none of the published networks was trained with
    "lr": 1e-2, "optimizer_eps": 1e-2, "weight_decay": 1e-4, "schedule": "none", "epochs": 200, "dropout": 0.0,
    "ema_decay": 0.9998, "batch_size": 256, "parts": 2,
}  # fmt: skip


@dataclass(frozen=True)
class RankStudySettings(Recipe):
    """Do shared weights rank paths as training from scratch does? The published words fix 30 paths and the subset;
    epochs, rate of the average and what is scored are unpublished, so these are our own choice.
    """

    search: str = ""  # folder of a finished search (of either method); its data set, subset and resolution are used
    paths: int = 30
    macs_min: float = 0.0
    macs_max: float = 0.0  # window of the paths in millions, by the search's table at 224; 0: any path of the supernet
    recalibrate_batches: int = 8  # of one share of the search's batch; 0: statistics as the search left them
    epochs: int = 100
    ema_decay: float = 0.99


@dataclass(frozen=True)
class EvaluateSettings:
    """Test error of weights: the authors' containers, the NNI hub's converted weights, or our own files."""

    arch: str = ""  # of weights trained here not needed: the file says it
    checkpoint: str = ""
    single_block: Literal["auto", "default", "strict"] = "auto"
    repeat_stage3: bool = False
    dataset: str = "imagenet"
    resolution: int = 0
    workers: int = 4
    batch_size: int = 128
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    weights: Literal["auto", "ema", "raw"] = "auto"  # auto: the average where a file holds one (the published numbers)


@dataclass(frozen=True)
class DescribeSettings:
    """Sizes and operation counts of a network."""

    arch: tyro.conf.Positional[str] = ""
    dataset: str = ""  # default: the set that a file is of, else ImageNet
    single_block: Literal["auto", "default", "strict"] = "auto"
    repeat_stage3: bool = False


@dataclass(frozen=True)
class DrawSettings:
    """Blocks of a network: kernel, expansion, width."""

    arch: tyro.conf.Positional[str] = "287"
    """A published name, a path list, or an architecture file."""
    single_block: Literal["auto", "default", "strict"] = "auto"
    format: Literal["svg", "png", "pdf"] = "svg"


@dataclass(frozen=True)
class FiguresSettings:
    """Accuracy against MACs, redrawn from the claims."""

    results: str = "results"  # measured points come from here
    format: Literal["svg", "png", "pdf"] = "svg"
