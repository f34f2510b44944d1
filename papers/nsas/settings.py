"""Settings of every stage; defaults are the published run's values.

No torch here, so that ``--help`` is instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from common.errors import UserError
from common.settings import Settings, refuse_idle, setting
from common.spaces.darts.settings import TrainDerived
from common.spaces.sizes import check_depth

INPUTS = {"nsas": ("released", "distinct"), "nsas-c": ("released", "published")}  # of the samplers, by constraint


@dataclass(frozen=True)
class Constraints(Settings):
    """The constraint set of the NSAS loss, in every space."""

    constraints: int = setting(4, "M, architectures in the constraint set; 8 at the head; 0: none", at_least=0)
    recent: int = setting(50, "C, recently trained architectures that may enter the constraint set", at_least=1)
    neighbours: int = setting(10, "k, nearest members that novelty is the mean distance to", at_least=1)
    mix: float = setting(0.5, "eps: (1 - eps) CE(current) + eps mean CE(constraints)", at_least=0, at_most=1)


@dataclass(frozen=True)
class SearchDarts(Constraints):
    """What both searches in the DARTS space share."""

    dataset: str = setting("cifar10", "data set: cifar10, cifar100, digits, or a folder of class folders")
    train_images: int = setting(0, "images of the training set that are used at all; 0: all", at_least=0)
    train_portion: float = setting(
        0.5, "share of them, from the front, that trains weights; the rest selects", above=0, below=1
    )
    constraint: Literal["nsas", "nsas-c"] = setting("nsas", "nsas-c: each node's two inputs are fixed (depth)")
    constraint_gradient: bool = setting(False, "gradient through the constraint losses; released: plain numbers")
    table: Literal["softmax", "raw"] = setting(
        "softmax", "weights of the operations: softmax of the 0/1 table (2019/20), or the table itself (head)"
    )
    channels: int = setting(16, "C of the supernet's first cells", at_least=1)
    layers: int = setting(8, "cells of the supernet", at_least=1)
    epochs: int = setting(50, "epochs of the supernet", at_least=1)
    batch_size: int = setting(32, "images a step", at_least=1)
    lr: float = setting(0.025, "learning rate of the weights in the first epoch", at_least=0)
    lr_min: float = setting(0.001, "learning rate where the cosine ends", at_least=0)
    shifted_lr: bool = setting(False, "epoch e runs with lr(e + 1), as torch >= 1.1 had it in the authors' programs")
    momentum: float = setting(0.9, "momentum of SGD", at_least=0, below=1)
    weight_decay: float = setting(3e-4, "weight decay of SGD", at_least=0)
    clip: float = setting(5.0, "largest norm of the gradient of all weights", above=0)


@dataclass(frozen=True)
class SearchRandom(SearchDarts):
    """RandomNAS-NSAS in the DARTS space (May 2020 run: 50 epochs, M = 4, softmax table)."""

    inputs: Literal["released", "distinct", "published"] = setting("released", "input patterns of the sampler")
    unsampled_statistics: bool = setting(
        True, "raw table: also move batch-norm statistics of operations that were not sampled"
    )
    select_rounds: int = setting(5, "rounds of the selection; each has a winner", at_least=1)
    select_candidates: int = setting(100, "random cells a round; 1000 in the May 2020 run, 10 at the head", at_least=1)
    select_images: int = setting(0, "images of the selection part; 0: all", at_least=0)
    select_batch_size: int = setting(100, "images at once in the selection", at_least=1)
    select_augment: bool = setting(True, "crop and flip images of the selection part, as released")
    recalibrate_batches: int = setting(
        0, "training batches that renew batch-norm statistics before a candidate is scored", at_least=0
    )
    monitor: bool = setting(False, "after every epoch score the four cells that the 2019 notebook watched")

    def check(self, given: frozenset[str] | None = None) -> None:
        """Inputs belong to a constraint; what acts with the raw table or with constraints only is refused without."""
        if self.inputs not in INPUTS[self.constraint]:
            known = " or ".join(INPUTS[self.constraint])
            raise UserError(f"--constraint {self.constraint} has no inputs {self.inputs!r}; use {known}")
        idle = {"unsampled_statistics": "--table raw"} if self.table == "softmax" else {}
        if not self.constraints:
            idle |= dict.fromkeys(("constraint_gradient", "recent", "neighbours", "mix"), "--constraints above 0")
        refuse_idle(self, idle, given)


@dataclass(frozen=True)
class SearchGdas(SearchDarts):
    """GDAS-NSAS in the DARTS space (2019 semantics: weighted constant, unrolled architecture step, tables restored)."""

    train_images: int = setting(
        10_000, "images of the training set that are used at all, in 2019 a fifth of CIFAR-10; 0: all (head)",
        at_least=0,
    )  # fmt: skip
    constraints: int = setting(8, "M, architectures in the constraint set; 0: none", at_least=0)
    semantics: Literal["2019", "head"] = setting(
        "2019", "head: plain architecture step, CE alone, tables overwritten by the draw"
    )
    weighted: bool = setting(True, "constraint losses joined by the similarity-weighted recursion; off: their mean")
    arch_lr: float = setting(3e-4, "learning rate of the tables (Adam)", at_least=0)
    arch_weight_decay: float = setting(1e-3, "weight decay of the tables", at_least=0)

    def check(self, given: frozenset[str] | None = None) -> None:
        """What acts with constraints, with their plain numbers, or under the 2019 semantics only is refused without."""
        archive = ("recent", "neighbours", "mix", "constraint_gradient")
        idle: dict[str, str] = {}
        if not self.constraints:
            idle |= dict.fromkeys((*archive, "weighted"), "--constraints above 0")
        if self.constraint_gradient:
            idle["weighted"] = "--no-constraint-gradient"
        if self.semantics == "head":
            idle |= dict.fromkeys((*archive, "constraints", "weighted"), "--semantics 2019")
        refuse_idle(self, idle, given)


@dataclass(frozen=True)
class Select(Settings):
    """A look into a search that has not ended: the cell that it would choose now."""

    search: str = setting("", "folder of a search that was killed or still goes on; it is only read")
    select_candidates: int = setting(0, "random cells (of the DARTS space: a round); 0: as in the search", at_least=0)
    select_images: int = setting(0, "images that they are scored on; 0: as in the search", at_least=0)


@dataclass(frozen=True)
class Train(TrainDerived):
    """A derived CNN; CIFAR values. The two ImageNet recipes are variants (imagenet-step, imagenet-linear)."""

    arch: str = setting("Random_NSAS", "published name, or an architecture file of a search")
    network: Literal["auto", "cifar", "imagenet"] = setting(
        "auto", "form of the network; auto: imagenet for pictures of 128 pixels and more"
    )
    cutout: int = setting(16, "side of the square that is cut out of training images, in pixels; 0: none", at_least=0)
    label_smoothing: float = setting(0.0, "share of the target that is spread over all classes", at_least=0, at_most=1)
    eval_batch_size: int = setting(250, "images of a batch in tests", at_least=1)
    schedule: Literal["cosine", "step", "linear"] = setting("cosine", "learning rate over the epochs")
    lr_min: float = setting(0.0, "learning rate where the cosine ends", at_least=0)
    shifted_lr: bool = setting(False, "epoch e runs with lr(e + 1), as torch >= 1.1 had it in the authors' programs")
    workers: int = setting(4, "loader processes for pictures in files", at_least=0)

    def check(self, given: frozenset[str] | None = None) -> None:
        """Enough cells for the auxiliary head; what acts with another schedule, or with that head, is refused."""
        check_depth(self.layers, self.auxiliary)
        idle = {} if self.schedule == "cosine" else {"lr_min": "--schedule cosine"}
        if not self.auxiliary:
            idle["auxiliary_weight"] = "--auxiliary"
        refuse_idle(self, idle, given)


@dataclass(frozen=True)
class Evaluate(Settings):
    """A trained derived CNN on its test set."""

    arch: str = setting("", "a published name, or an architecture file; default: that of the file, if it says so")
    checkpoint: str = setting("", "file of weights: from train, or a released one")
    weights: Literal["auto", "ema", "raw"] = setting("auto", "which of a container's weights; auto: the average")
    dataset: str = setting("cifar10", "unless given, the file's own, or that of released files with so many classes")
    channels: int = setting(0, "C of the first cells; 0: as in the file", at_least=0)
    layers: int = setting(0, "cells; 0: as in the file", at_least=0)
    batch_size: int = setting(250, "images at once", at_least=1)
    workers: int = setting(4, "loader processes for pictures in files", at_least=0)


@dataclass(frozen=True)
class Describe(Settings):
    """Counts of a published or found architecture."""

    arch: tyro.conf.Positional[str] = setting("Random_NSAS", "a published name, an architecture file, own weights")
    dataset: str = setting("", "a set or text by name, or a folder; default the file's own, else cifar10 or ptb")
    classes: int = setting(0, "classes (of recurrent networks: words); 0: those of the set", at_least=0)
    channels: int = setting(
        0, "initial channels C (of recurrent networks: units); 0: the file's or published", at_least=0
    )
    layers: int = setting(0, "cells (of NAS-Bench-201: cells of a stage); 0: the file's, or as published", at_least=0)


@dataclass(frozen=True)
class Draw(Settings):
    """Drawings of the cells of an architecture."""

    arch: tyro.conf.Positional[str] = setting("Random_NSAS", "a published name, or an architecture file")
    recurrent: bool = setting(False, "of the two cells of a published name the recurrent one; files say what they are")
    format: Literal["svg", "png", "pdf", "dot"] = setting("svg", "kind of the pictures; dot: text for graphviz")
