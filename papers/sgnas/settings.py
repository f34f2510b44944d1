"""Settings of every stage; the defaults are the published ImageNet run's. Imports no torch, so that --help is instant.

The authors count ``warmup_epochs`` and ``search_epochs`` in one number line; here the two phases have counts of their
own (their generator trains ``search_epochs - warmup_epochs`` epochs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro


@dataclass(frozen=True)
class SearchSettings:
    """Both phases of the search."""

    dataset: str = "imagenet"
    """imagenet, cifar10, cifar100, tiny-imagenet-20, digits, or a folder of class folders or LMDBs."""
    macro: Literal["auto", "imagenet", "cifar", "tiny"] = "auto"
    """Macro structure: auto takes imagenet for pictures of any size, cifar for 32 x 32 sets."""
    train_portion: float = 1.0
    """Share of the training images for the supernet (the first ones of CIFAR in file order, where the authors' file
    says 0.8); 1: all that --search-images leaves."""
    search_images: int = 50_000
    """Images of the generator's split; 0: all that --train-portion leaves (the authors' README: 20 %)."""
    train_images: int = 0
    """At most so many images for the supernet; 0: all of its share."""
    batch_size: int = 128
    """Images per step over all processes and parts."""
    parts: int = 4
    """Shares of a batch that are normalised apart, a multiple of the number of processes; the authors' four GPUs had 32
    images each here, 128 on CIFAR. 0: one per process."""
    workers: int = 16
    supernet_epochs: int = 50
    """An assumption: how long the authors trained it is not known. Their files say 1 (CIFAR) and 0 (ImageNet), both of
    which stand for a supernet that was trained before; a user of their code took 50."""
    generator_epochs: int = 50
    paths: int = 4
    """Paths per batch, whose gradients are added up."""
    active: Literal["random", "prefix", "sorted"] = "random"
    """Which sub-blocks a path switches on: random ones (released code), the first ones, or one sorted code."""
    switchable_bn: bool = True
    """Six normalisations behind a block's projection, chosen by how many sub-blocks are skipped; off: one for all
    (ablation; the paper's own form of it is unpublished)."""
    gradients: Literal["zero", "none"] = "zero"
    """Whether an operation used earlier but not now is moved by momentum and decay (PyTorch before 2.0) or not."""
    learning_rate: float = 0.064
    momentum: float = 0.9
    weight_decay: float = 4e-4
    cosine_epochs: int = 50
    """Horizon of the cosine schedule, whatever the number of supernet epochs."""
    label_smoothing: float = 0.1
    bn_momentum: float = 0.1
    low: float = 270.0
    high: float = 450.0
    """Range of targets in MFLOPs (or ms, with a latency table)."""
    target_step: float = 5.0
    target_noise: float = 0.5
    validation_step: float = 10.0
    alpha: float = 0.0003
    loss_penalty: float = 1.2
    accept_loss: float = 0.4
    """Largest total hardware loss of a "best average" generator."""
    tau: float = 5.0
    tau_decay: float = 0.95
    generator_lr: float = 0.001
    targets_per_step: int = 1
    """Targets trained on per batch, in one pass of the generator (1 in the original)."""
    constraint_channels: int = 10
    width: int = 32
    generator_layers: int = 5
    pool_size: int = 1
    prior_seed: int = 42
    prior_tolerance: float = 1.0
    prior_pool: str = ""
    """File of a prior pool; empty: draw one."""
    supernet: str = ""
    """Trained supernet (supernet.safetensors of another run): a generator-only search uses it as it is, supernet
    training starts from its weights."""
    latency_table: str = ""
    """File written by the latency command: targets are then milliseconds."""
    recalibrate: int = 0
    """Batches for re-estimating batch normalisation before an architecture is scored (0: off, as in the original)."""
    targets: tuple[float, ...] = (275.0, 320.0, 365.0)
    """Constraints to write architectures for at the end; architecture.json is the middle one."""


@dataclass(frozen=True)
class GenerateSettings:
    """Architectures for any number of targets."""

    target_mflops: tuple[float, ...] = (365.0, 320.0, 275.0)
    generator: str = "published"
    """published (under the data root), a search's folder, its generator.safetensors, or the authors' best_avg.pth."""
    prior_pool: str = ""
    """For the authors' file: its prior_pool.json (default: beside it)."""
    hit: bool = False
    """Scan targets so that the cost comes as near to each budget as it can (not in the original)."""
    classes: int = 1000
    se: bool = True
    """Squeeze-excite in the printed counts."""


@dataclass(frozen=True)
class SweepSettings:
    """Target against obtained MACs (and supernet error, where a supernet is given), as table and plot."""

    generator: str = "published"
    prior_pool: str = ""
    step: float = 10.0
    supernet: str = ""
    """Trained supernet whose error is shown as well."""
    dataset: str = ""
    """The supernet's own set (empty: where it was when the supernet was trained)."""
    search_images: int = 2_000
    """At most so many images to score on, all of them such as the supernet was not trained on; 0: all of those."""
    batch_size: int = 256
    recalibrate: int = 0


@dataclass(frozen=True)
class TrainSettings:
    """Training from scratch; the defaults are ImageNet's (four GPUs of 64 images), preset ``cifar`` is CIFAR's."""

    arch: str = "SGNAS-B"
    """A published name or an architecture file."""
    dataset: str = "imagenet"
    macro: Literal["auto", "imagenet", "cifar", "tiny"] = "auto"
    train_images: int = 0
    se: bool = True
    activation: Literal["relu", "hswish"] = "hswish"
    bn_momentum: float = 0.001
    dropout: float = 0.2
    epochs: int = 500
    batch_size: int = 256
    """Images per step over all processes and parts."""
    parts: int = 4
    """Shares of a batch that are normalised apart, a multiple of the number of processes; the authors' four GPUs had 64
    images each here, 128 on CIFAR. 0: one per process."""
    workers: int = 8
    optimizer: Literal["rmsproptf", "sgd"] = "rmsproptf"
    learning_rate: float = 0.016
    momentum: float = 0.9
    weight_decay: float = 1e-5
    schedule: Literal["step", "cosine"] = "step"
    decay_epochs: float = 3.0
    decay_rate: float = 0.963
    warmup_lr: float = 1e-4
    warmup_epochs: int = 5
    ema: float = 0.99995
    """Decay of the averaged weights; 0: none."""
    label_smoothing: float = 0.1
    smoothed_test_loss: bool = False
    """Whether the loss reported for the test set is smoothed too, as the authors do on CIFAR."""


@dataclass(frozen=True)
class EvaluateSettings:
    """Top-1 and top-5 error of weights on a test set."""

    arch: str = ""
    """A published name or an architecture file; empty: what the file of weights says (those of a training here do)."""
    checkpoint: str = ""
    """weights.safetensors of a training run, or the authors' file."""
    weights: Literal["auto", "ema", "raw"] = "auto"
    """Of a file with averaged and raw weights: auto takes the averaged ones, as the authors do."""
    dataset: str = "imagenet"
    """Where it is not given, the set that the file of weights says."""
    macro: Literal["auto", "imagenet", "cifar", "tiny"] = "auto"
    se: bool = True
    """Squeeze-excite; whether the weights have it, their file tells."""
    activation: Literal["relu", "hswish"] = "hswish"
    """For a file of weights that does not say it."""
    batch_size: int = 256
    workers: int = 8
    fold_bn: bool = True
    """Fold normalisation into the convolutions (same outputs, faster)."""


@dataclass(frozen=True)
class EvolveSettings:
    """The compared family of methods: one evolutionary search per constraint on the same supernet."""

    supernet: str = ""
    dataset: str = ""
    """The supernet's own set (empty: where it was when the supernet was trained)."""
    search_images: int = 2_000
    """At most so many images to score on, all of them such as the supernet was not trained on; 0: all of those."""
    batch_size: int = 256
    targets: tuple[float, ...] = (275.0, 320.0, 365.0)
    tolerance: float = 2.0
    """Largest excess or shortfall of a candidate, in MFLOPs."""
    population: int = 20
    generations: int = 10
    parents: int = 5
    mutation: float = 0.1
    recalibrate: int = 0
    random: bool = False
    """Random search with the same number of scored candidates instead (the baseline at equal MACs)."""


@dataclass(frozen=True)
class CostSettings:
    """Time for N constraints: one generator against one evolutionary search per constraint."""

    search: str = ""
    """Folder of a finished search-generator run, whose time is used; empty: the generator is timed here per step."""
    evolved: str = ""
    """Folder of a finished evolve run, whose time per constraint is used; empty: candidates are timed here."""
    counts: tuple[int, ...] = (1, 3, 10)
    macro: Literal["imagenet", "cifar", "tiny"] = "cifar"
    batch_size: int = 16
    generator_steps: int = 12_512
    """Adam steps of the published generator."""
    candidates: int = 1_000
    """Architectures that an evolutionary search scores per constraint."""
    candidate_batches: int = 40
    """Batches per scored architecture."""
    repeats: int = 2


@dataclass(frozen=True)
class LatencySettings:
    """Measure a latency table on this device."""

    macro: Literal["imagenet", "cifar", "tiny"] = "imagenet"
    batch_size: int = 1
    repeats: int = 10


@dataclass(frozen=True)
class ConvertSettings:
    """Pack a folder of class folders into an LMDB."""

    source: tyro.conf.Positional[str] = ""
    target: tyro.conf.Positional[str] = ""


@dataclass(frozen=True)
class DescribeSettings:
    """Counts and kernels of an architecture."""

    arch: tyro.conf.Positional[str] = "SGNAS-A"
    dataset: str = ""
    """imagenet, cifar10, cifar100 or digits; empty: what an architecture file says, ImageNet for a published one."""


@dataclass(frozen=True)
class DrawSettings:
    """Draw an architecture's kernels."""

    arch: tyro.conf.Positional[str] = "SGNAS-A"


CIFAR_SEARCH = {
    "dataset": "cifar100",
    "train_portion": 0.8,
    "search_images": 0,
    "batch_size": 512,
    "supernet_epochs": 50,
    "cosine_epochs": 200,
    "low": 80.0,
    "high": 120.0,
    "targets": (90.0, 100.0, 110.0),
}
CIFAR_TRAIN = {
    "dataset": "cifar100",
    "se": False,
    "activation": "relu",
    "bn_momentum": 0.1,
    "epochs": 200,
    "batch_size": 512,
    "optimizer": "sgd",
    "learning_rate": 0.064,
    "weight_decay": 4e-4,
    "schedule": "cosine",
    "warmup_epochs": 0,
    "ema": 0.0,
    "smoothed_test_loss": True,
}
