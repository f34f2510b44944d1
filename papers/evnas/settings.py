"""Settings of the two searches; the defaults are the published runs. Imports no torch, so that --help is instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Strategy = Literal["evolution", "random", "random-search"]


@dataclass(frozen=True)
class SearchS1:
    """Search in S1, the DARTS cell space."""

    dataset: str = "cifar10"
    """cifar10, cifar100, digits, tiny-imagenet-20, or a folder of class folders (sizes are multiples of 4)."""
    split: Literal["index", "random"] = "index"
    """Halves of the training set: the first and the last images (released), or two random ones."""
    train_images: int = 0
    """At most so many images for the weights; 0: the whole half."""
    fitness_size: int = 0
    """At most so many images for the fitness; 0: the whole half."""
    channels: int = 16
    layers: int = 8
    generations: int = 50
    """One generation is one epoch of training, one fitness pass of every individual, one evolution."""
    batch_size: int = 64
    fitness_batch_size: int = 1024
    parts: int = 0
    """Shares that every batch is worked through in, a multiple of the processes; 0: one per process."""
    learning_rate: float = 0.025
    learning_rate_min: float = 0.001
    """The rate falls to it along a cosine over the generations."""
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 3e-4
    clip: float = 5.0
    """Total norm that gradients are cut to; 0: off."""
    pad: int = -1
    """Zero pixels around the image before the random crop; -1: an eighth of the side (4 for 32, 2 for 16)."""
    flip: bool = True
    cutout: int = 16
    """Side of the square set to 0; 0: none."""
    population: int = 50
    tournament: int = 10
    elites: int = 1
    mutation_rate: float = 0.1
    """Probability that a row of a child is drawn anew."""
    decode_train: bool = True
    """Train with decoded architectures D(A); off: with A itself (EvNAS-NDT)."""
    decode_fitness: bool = True
    """Measure fitness with D(A); off: with A itself (EvNAS-NDF)."""
    beta: float = 1.0
    """Value of the chosen operations in D(A) before the softmax; a large one approaches a single path."""
    crossover: bool = True
    """Off: a child is a copy of one tournament winner (EvNAS-Mut)."""
    mutation: bool = True
    """Off: EvNAS-Cross."""
    strategy: Strategy = "evolution"
    """random: new individuals every generation, fitness in the last one only (EvNAS-Rand); random-search: new
    individuals every generation, all measured, the best of all is the answer (the same budget as evolution)."""
    fitness_bn: Literal["batch", "running"] = "batch"
    """Batch norm during fitness: statistics of the batch, which also move the running ones (released), or running."""
    fitness_images: Literal["augmented", "clean"] = "augmented"
    """Images of the fitness: with the training augmentation (released) or plain."""


@dataclass(frozen=True)
class SearchS2:
    """Search in S2, the NAS-Bench-201 space."""

    dataset: str = "cifar10"
    """cifar10, cifar100, imagenet16-120, digits, or a folder of class folders (sizes are multiples of 4)."""
    split: Literal["official", "index", "random"] = "official"
    """official: the benchmark's index file where the data set has one, else random halves."""
    train_images: int = 0
    """At most so many images for the weights; 0: all of that part."""
    fitness_size: int = 0
    """At most so many images for the fitness; 0: all of that part."""
    channels: int = 16
    cells_per_stage: int = 5
    track_running_stats: bool = True
    """Off: batch norm in cells always uses the batch (the script passes the flag that turns it on)."""
    generations: int = 50
    """One generation is one epoch of training, one fitness pass of every individual, one evolution."""
    batch_size: int = 64
    fitness_batch_size: int = 1024
    parts: int = 0
    """Shares that every batch is worked through in, a multiple of the processes; 0: one per process."""
    learning_rate: float = 0.025
    learning_rate_min: float = 0.001
    """The rate falls to it along a cosine over the generations."""
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 3e-4
    clip: float = 5.0
    """Total norm that gradients are cut to; 0: off."""
    pad: int = -1
    """Zero pixels around the image before the random crop; -1: an eighth of the side (4 for 32, 2 for 16)."""
    flip: bool = True
    cutout: int = 0
    """Side of the square set to 0; 0: none (the script passes --cutout, which cut nothing out)."""
    population: int = 50
    tournament: int = 10
    elites: int = 1
    mutation_rate: float = 0.1
    """Probability that a row of a child is drawn anew."""
    decode_train: bool = True
    """Train with decoded architectures D(A); off: with A itself."""
    decode_fitness: bool = True
    """Measure fitness with D(A); off: with A itself."""
    beta: float = 1.0
    """Value of the chosen operations in D(A) before the softmax; a large one approaches a single path."""
    crossover: bool = True
    """Off: a child is a copy of one tournament winner."""
    mutation: bool = True
    strategy: Strategy = "evolution"
    """As in S1: evolution, random (fitness in the last generation only), random-search (the same budget)."""
    fitness_bn: Literal["batch", "running"] = "running"
    """Batch norm during fitness: running statistics, which mix all individuals (released), or those of the batch."""
    fitness_images: Literal["augmented", "clean"] = "clean"
    """Images of the fitness: plain (released) or with the training augmentation."""


SearchSettings = SearchS1 | SearchS2

ABLATIONS: dict[str, dict[str, Any]] = {
    "ND": {"decode_train": False, "decode_fitness": False},
    "NDF": {"decode_fitness": False},
    "NDT": {"decode_train": False},
    "Mut": {"crossover": False},
    "Cross": {"mutation": False},
    "Rand": {"strategy": "random"},
    "random-search": {"strategy": "random-search"},
}
S1_VARIANTS: dict[str, dict[str, Any]] = {"paper": {}, "modern": {"fitness_images": "clean"}, **ABLATIONS}
S2_VARIANTS: dict[str, dict[str, Any]] = {"paper": {"cutout": 16}, "modern": {"fitness_bn": "batch"}, **ABLATIONS}
