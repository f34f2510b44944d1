"""Settings of all stages; the defaults are the published runs. Imports no torch, so that --help is instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import tyro

from common.errors import UserError
from common.settings import Settings, refuse_idle, setting, with_default
from common.spaces.darts.settings import TrainDerived


@dataclass(frozen=True)
class Search(Settings):
    """The evolutionary search in either space."""

    space: ClassVar[str]

    dataset: str = setting("cifar10", "cifar10, cifar100, digits, or a folder of class folders (sizes: multiples of 4)")
    split: str = setting("random", "halves of the training set, for the weights and for the fitness")
    train_images: int = setting(0, "at most so many images for the weights; 0: all of that part", at_least=0)
    fitness_images: int = setting(0, "at most so many images for the fitness; 0: all of that part", at_least=0)
    channels: int = setting(16, "initial channels C of the supernet", at_least=1)
    generations: int = setting(
        50, "generations: each an epoch of training, a fitness pass of every individual, an evolution", at_least=1
    )
    batch_size: int = setting(64, "images of a training batch, of all processes together", at_least=1)
    fitness_batch_size: int = setting(1024, "images of a batch in a fitness pass", at_least=1)
    parts: int = setting(
        0, "shares that every batch is worked through in, a multiple of the processes; 0: one per process", at_least=0
    )
    lr: float = setting(0.025, "learning rate of the first generation", at_least=0)
    lr_min: float = setting(0.001, "the rate falls to it along a cosine over the generations", at_least=0)
    momentum: float = setting(0.9, "momentum of SGD", at_least=0, below=1)
    nesterov: bool = setting(False, "Nesterov's form of the momentum")
    weight_decay: float = setting(3e-4, "weight decay of SGD", at_least=0)
    clip: float = setting(5.0, "total norm that gradients are cut to; 0: off", at_least=0)
    pad: int = setting(
        -1, "zero pixels around the image before the random crop; -1: an eighth of its side (4 for 32)", at_least=-1
    )
    flip: bool = setting(True, "mirror half of the images")
    cutout: int = setting(0, "side in pixels of the square set to 0; 0: none", at_least=0)
    population: int = setting(50, "individuals P", at_least=1)
    tournament: int = setting(10, "individuals drawn for a parent, of whom the fittest is taken", at_least=1)
    elites: int = setting(1, "best individuals that go on unchanged", at_least=0)
    mutation_rate: float = setting(0.1, "probability that a row of a child is drawn anew", at_least=0, at_most=1)
    decode_train: bool = setting(True, "train with decoded architectures D(A); off: with A itself (EvNAS-NDT)")
    decode_fitness: bool = setting(True, "measure fitness with D(A); off: with A itself (EvNAS-NDF)")
    beta: float = setting(
        1.0, "value of the chosen operations in D(A) before the softmax; a large one nears a single path", above=0
    )
    crossover: bool = setting(True, "off: a child is a copy of one tournament winner (EvNAS-Mut)")
    mutation: bool = setting(True, "off: children are not mutated (EvNAS-Cross)")
    strategy: Literal["evolution", "random", "random-search"] = setting(
        "evolution", "random: new individuals every generation, fitness in the last one only (EvNAS-Rand); "
        "random-search: new individuals every generation, all measured, the best of all is the answer (equal budget)",
    )  # fmt: skip
    fitness_bn: Literal["batch", "running"] = setting(
        "batch", "batch norm in fitness passes: statistics of the batch, which also move the running ones, or running"
    )
    fitness_augment: bool = setting(True, "measure fitness on augmented images; off: on plain ones")

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError for a population that cannot evolve, and for settings that do nothing."""
        if self.tournament > self.population:
            raise UserError(
                f"--tournament {self.tournament} is not between 1 and the population of {self.population}; lower it or "
                f"raise --population"
            )
        if self.elites > self.population:
            raise UserError(f"--elites {self.elites} is not between 0 and the population of {self.population}")
        if self.nesterov and not self.momentum:
            raise UserError("Nesterov's form needs a momentum; raise --momentum above 0 or add --no-nesterov")
        idle: dict[str, str] = {}
        if self.strategy != "evolution":
            names = ("tournament", "elites", "mutation_rate", "crossover", "mutation")
            idle |= dict.fromkeys(names, "--strategy evolution")
        if not self.mutation:
            idle.setdefault("mutation_rate", "--mutation")
        if not (self.decode_train or self.decode_fitness):
            idle["beta"] = "--decode-train or --decode-fitness"
        refuse_idle(self, idle, given)


@dataclass(frozen=True)
class SearchDARTS(Search):
    """Search in the DARTS cell space (S1 of the paper)."""

    space: ClassVar[str] = "darts"

    split: Literal["index", "random"] = setting(
        "index", "halves of the training set: its first and its last images (released), or two random halves"
    )
    layers: int = setting(8, "cells of the supernet: two reduction cells and at least a normal one", at_least=3)
    cutout: int = with_default(Search, "cutout", 16)


@dataclass(frozen=True)
class SearchNB201(Search):
    """Search in the NAS-Bench-201 space (S2 of the paper)."""

    space: ClassVar[str] = "nb201"

    dataset: str = setting(
        "cifar10", "cifar10, cifar100, imagenet16-120, digits, or a folder of class folders (sizes: multiples of 4)"
    )
    split: Literal["official", "index", "random"] = setting(
        "official", "official: the benchmark's index file where the set has one, else random halves; index: first and "
        "last images; random",
    )  # fmt: skip
    cells_per_stage: int = setting(5, "cells N of each of the three stages", at_least=1)
    track_running_stats: bool = setting(True, "off: batch norm in cells always uses the batch")
    nesterov: bool = with_default(Search, "nesterov", True)
    fitness_bn: Literal["batch", "running"] = with_default(Search, "fitness_bn", "running")
    fitness_augment: bool = with_default(Search, "fitness_augment", False)


ABLATIONS: dict[str, dict[str, Any]] = {
    "ND": {"decode_train": False, "decode_fitness": False},
    "NDF": {"decode_fitness": False},
    "NDT": {"decode_train": False},
    "Mut": {"crossover": False},
    "Cross": {"mutation": False},
    "Rand": {"strategy": "random"},
    "random-search": {"strategy": "random-search"},
}
VARIANTS: dict[type[Search], dict[str, dict[str, Any]]] = {
    SearchDARTS: {"paper": {}, "modern": {"fitness_augment": False}, **ABLATIONS},
    SearchNB201: {"paper": {"cutout": 16}, "modern": {"fitness_bn": "batch"}, **ABLATIONS},
}


@dataclass(frozen=True)
class Train(TrainDerived):
    """The CIFAR-10/100 recipe of the published networks."""

    arch: str = with_default(TrainDerived, "arch", "EvNASA")
    pad: int = setting(4, "zero pixels around the image before the random crop", at_least=0)
    flip: bool = setting(True, "mirror half of the images")
    cutout: int = setting(16, "side in pixels of the square set to 0; 0: none", at_least=0)

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError for settings that do nothing."""
        refuse_idle(self, {} if self.auxiliary else {"auxiliary_weight": "--auxiliary"}, given)


@dataclass(frozen=True)
class TrainImageNet(TrainDerived):
    """The ImageNet recipe: the released program's defaults (P-DARTS's)."""

    arch: str = with_default(TrainDerived, "arch", "EvNASA")
    dataset: str = setting("imagenet", "imagenet, a folder of class folders, or an .lmdb file")
    channels: int = with_default(TrainDerived, "channels", 48)
    layers: int = with_default(TrainDerived, "layers", 14)
    epochs: int = with_default(TrainDerived, "epochs", 250)
    batch_size: int = with_default(TrainDerived, "batch_size", 256)
    eval_batch_size: int = with_default(TrainDerived, "eval_batch_size", 256)
    schedule: Literal["linear", "cosine"] = setting(
        "linear", "how the rate falls to 0; cosine: as the released program steps it, an epoch ahead"
    )
    lr: float = with_default(TrainDerived, "lr", 0.1)
    warmup_epochs: int = setting(5, "epochs of rising rate, for batches of more than 256 images only", at_least=0)
    weight_decay: float = with_default(TrainDerived, "weight_decay", 3e-5)
    label_smoothing: float = setting(0.1, "share of the target spread over all classes", at_least=0, below=1)
    drop_path: float = with_default(TrainDerived, "drop_path", 0.0)
    workers: int = setting(8, "processes that load pictures", at_least=0, result=False)

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError for too few epochs, and for settings that do nothing."""
        if self.schedule == "linear" and self.epochs <= 5:
            raise UserError(
                f"--epochs {self.epochs}: the linear schedule keeps its last five epochs for a fifth of the slope and "
                f"needs more than 5; raise --epochs, or use --schedule cosine"
            )
        idle = {} if self.auxiliary else {"auxiliary_weight": "--auxiliary"}
        if self.batch_size <= 256:
            idle["warmup_epochs"] = "--batch-size above 256"
        refuse_idle(self, idle, given)


@dataclass(frozen=True)
class Evaluate(Settings):
    """Test error of trained weights: one's own or the authors' checkpoint."""

    arch: str = setting("", "published name or architecture file; empty: what the weights say of themselves")
    dataset: str = setting("cifar10", "the set whose test part is used; default the set that the weights name")
    checkpoint: str = setting("", "weights.safetensors of train, or a file of the authors")
    weights: Literal["auto", "ema", "raw"] = setting("auto", "which of a file that holds averaged and raw weights")
    channels: int = setting(0, "initial channels C; 0: those of the weights", at_least=0)
    layers: int = setting(0, "cells; 0: those of the weights", at_least=0)
    batch_size: int = setting(0, "images of a batch; 0: 96 for CIFAR, 128 for ImageNet; changes no result", at_least=0)
    workers: int = setting(8, "processes that load pictures", at_least=0, result=False)


@dataclass(frozen=True)
class Describe(Settings):
    """Counts of a network."""

    arch: tyro.conf.Positional[str] = setting("EvNASA", "published name, architecture file, or weights of one's own")
    dataset: str = setting("", "a set by name, or a folder of class folders; default a file's own set, else cifar10")
    classes: int = setting(0, "classes; 0: those of the set", at_least=0)
    channels: int = setting(0, "initial channels C; 0: the file's, else the published ones", at_least=0)
    layers: int = setting(0, "cells (of NAS-Bench-201: cells of a stage); 0: the file's, else as published", at_least=0)


@dataclass(frozen=True)
class Draw(Settings):
    """Pictures of an architecture's cells."""

    arch: tyro.conf.Positional[str] = setting("EvNASA", "published name, architecture file, or a NAS-Bench-201 string")
    format: Literal["svg", "png", "pdf", "dot"] = setting("svg", "kind of the pictures; dot: text for graphviz")
