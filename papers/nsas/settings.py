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
class SearchNb201RandomSettings:
    """RandomNAS variants on NAS-Bench-201 as stored in the notebooks (100 epochs for NSAS, 250 for LoW)."""

    dataset: str = "cifar10"
    train_images: int = 0
    constraint: Literal["nsas", "r", "g", "compensation", "low", "none"] = "nsas"
    constraints: int = 2  # M of NSAS: 2 to 5
    constraint_gradient: bool = True
    structure_bug: bool = True  # diverse and compensation cells lose three of their six edges, as released
    argument_bug: bool = True  # M >= 3: every diverse cell avoids the random one only, as released
    selection: Literal["released", "proper"] = "released"  # a new random cell for every batch, or one fixed cell a pass
    select_candidates: int = 100
    epoch_candidates: int = 2  # cells compared after every epoch, beside one validation pass; 0 = neither
    select_images: int = 0  # images of the other half; 0 = all
    select_batch_size: int = 64  # as released; with "released" selection it sets how many cells a pass mixes
    recalibrate_batches: int = 0
    channels: int = 16
    cells: int = 5
    epochs: int = 100
    batch_size: int = 64
    learning_rate: float = 0.025
    learning_rate_min: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float = 5.0


@dataclass(frozen=True)
class SearchNb201GdasSettings:
    """GDAS variants on NAS-Bench-201 (250 epochs in every log)."""

    dataset: str = "cifar10"
    train_images: int = 0
    constraint: Literal["nsas", "r", "g", "compensation", "low", "none"] = "nsas"
    constraints: int = 2
    constraint_gradient: bool = False
    shared_cells: bool = True  # as released: index tensors changed in place, constraints made from a draw of their own
    stale_clip: bool = True  # clip over all parameters, alphas with their stale gradient included
    penalty: float = 0.2
    tau_max: float = 10.0
    tau_min: float = 0.1
    channels: int = 16
    cells: int = 5
    epochs: int = 250
    batch_size: int = 64
    learning_rate: float = 0.025
    learning_rate_min: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float = 5.0
    arch_learning_rate: float = 3e-4
    arch_weight_decay: float = 1e-3


@dataclass(frozen=True)
class SearchRecurrentSettings:
    """RandomNAS-NSAS in the recurrent space (October 2019 log; its architecture never changed: ``path`` "fixed")."""

    text: str = "ptb"
    max_tokens: int = 0
    max_types: int = 0
    path: Literal["fixed", "sampled"] = "fixed"  # fixed: the released run, which only ever trains the first mixture
    table: Literal["softmax", "raw"] = "softmax"  # of the fixed path: softmax of the table (2019) or itself (head)
    constraints: int = 8
    recent: int = 20
    neighbours: int = 10
    mix: float = 0.5
    width: int = 300
    epochs: int = 300
    batch_size: int = 64
    eval_batch_size: int = 10
    bptt: int = 35
    learning_rate: float = 20.0
    clip: float = 0.25
    weight_decay: float = 5e-7
    drop_output: float = 0.75
    drop_hidden: float = 0.25
    drop_x: float = 0.75
    drop_input: float = 0.2
    drop_embedding: float = 0.0
    beta: float = 1e-3
    select_candidates: int = 100
    select_rows: int = 0  # rows of the validation stream; 0 = all
    recalibrate_chunks: int = 10


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
class TrainRecurrentSettings:
    """The derived recurrent cell from scratch (section 5.3)."""

    arch: str = "Random_NSAS"
    text: str = "ptb"
    max_tokens: int = 0
    max_types: int = 0
    width: int = 850
    epochs: int = 3600
    batch_size: int = 64
    eval_batch_size: int = 10
    bptt: int = 35
    learning_rate: float = 20.0
    clip: float = 0.25
    weight_decay: float = 8e-7
    drop_output: float = 0.75
    drop_hidden: float = 0.25
    drop_x: float = 0.75
    drop_input: float = 0.2
    drop_embedding: float = 0.1
    alpha: float = 0.0
    beta: float = 1e-3
    nonmono: int = 5
    rollbacks: int = 20  # give up after so many returns to the best saved model


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
class EvaluateRecurrentSettings:
    """A trained recurrent network: validation (batch 10) and test (batch 1) perplexity."""

    arch: str = ""  # default: that of the file, if it says so
    checkpoint: str = ""
    weights: Literal["auto", "ema", "raw"] = "auto"
    text: str = "ptb"  # unless given: the file's own, or ptb for a file with its 10,000 words
    max_tokens: int = 0
    max_types: int = 0
    width: int = 0
    bptt: int = 35
    eval_batch_size: int = 10


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


@dataclass(frozen=True)
class ExperimentSettings:
    """Does the constraint matter? Supernets on NAS-Bench-201/CIFAR-10 trained under several losses."""

    dataset: str = "cifar10"
    train_images: int = 10_000
    loss: Literal["authors", "paper", "both"] = "authors"  # constraint losses without or with gradient; both in turn
    constraints: int = 2  # M; 0 = RandomNAS
    mix: float = 0.5
    recent: int = 50
    neighbours: int = 10
    channels: int = 8
    cells: int = 2
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.025
    learning_rate_min: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float = 5.0
    probe_every: int = 50  # steps between forgetting measurements
    probe_images: int = 256
    rank_cells: int = 100  # cells whose supernet accuracy is ranked
    rank_images: int = 1_000
    recalibrate_batches: int = 2
    summarise: str = ""  # a folder: join the runs below it instead of running one
