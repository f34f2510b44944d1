"""Claims that need no training: rounded sizes, keys, mixtures, schedules, and the cells of the NAS-Bench-201 tables."""

from __future__ import annotations

import numpy as np
import torch

from common.data.augment import Augmentation
from common.data.batches import Batches
from common.data.nasbench201 import Table
from common.data.pictures.batches import EvalPictures, FolderBatches, Pictures
from common.data.sets import Images
from common.train.schedules import cosine
from papers.evnas.data import batches
from papers.evnas.describe import describe
from papers.evnas.method.evolution import Draws
from papers.evnas.method.population import S1, S2, mixtures
from papers.evnas.networks import CLASSES, build, constants, load_genotype
from papers.evnas.settings import SearchS1, SearchS2
from papers.evnas.settings_train import TrainImageNetSettings, TrainSettings
from papers.evnas.train import cifar_lr, drop_path_probability, imagenet_lr


def millions(name: str, dataset: str, key: str) -> float:
    """A count of a published network in millions, for the rounded figures of the tables."""
    return describe(name, dataset)[key] / 1e6


def optimum(dataset: str, part: str) -> float:
    """Best accuracy in percent of all 15,625 cells after 200 epochs; ``part`` is test or valid."""
    return Table.open().optimum(dataset, part)[1]


def share_at_least(dataset: str, part: str, accuracy: float) -> float:
    """Percent of all 15,625 cells that reach ``accuracy`` after 200 epochs."""
    return float(100 * (Table.open().column(dataset, part) >= accuracy).mean())


def median(dataset: str, part: str) -> float:
    """Median accuracy in percent of all 15,625 cells after 200 epochs."""
    return float(np.median(Table.open().column(dataset, part)))


def state_entries(name: str, dataset: str, auxiliary: int) -> int:
    """Keys of a published network's weight file, with (1) or without (0) the auxiliary head."""
    with torch.device("meta"):
        network = build(load_genotype(name), dataset == "imagenet", CLASSES[dataset], auxiliary=bool(auxiliary))
    return len(network.state_dict())


def mixture_weight(space: str, which: str) -> float:
    """Weight of an operation in the mixture of a decoded individual.

    ``chosen``: the chosen operation of a chosen row; ``other``: the rest of that row; ``unchosen``: a row that decoding
    leaves out (S1). Raises ValueError unless all operations of that kind weigh the same.
    """
    of, settings = (S1, SearchS1()) if space == "s1" else (S2, SearchS2())
    population = Draws.stream(of, 0, "population").population(1)
    weights = mixtures(of, population, True, settings.beta)[0]
    if of is S1:
        weights = torch.tensor(weights[0] + weights[1])
    chosen = of.decode(population[0], settings.beta) > 0
    row = chosen.any(-1, keepdim=True)
    of_kind = {"chosen": chosen, "other": row & ~chosen, "unchosen": ~row & ~chosen}[which]
    (weight,) = {round(w, 9) for w in weights[of_kind].tolist()}
    return weight


def steps(stage: str, images: int) -> int:
    """Batches in an epoch of so many images: s1, s2 (search), cifar, imagenet (training)."""
    if stage == "imagenet":
        nowhere = np.zeros(images, dtype=np.int64)
        pictures = Pictures(None, nowhere, nowhere, (), "blank")  # type: ignore[arg-type]
        return len(FolderBatches(pictures, TrainImageNetSettings().batch_size, EvalPictures(), 0))
    blank = Images(
        torch.zeros((), dtype=torch.uint8).expand(images, 3, 32, 32), torch.zeros(images), (), "blank", True
    )  # fmt: skip
    if stage == "cifar":
        return len(Batches(blank, TrainSettings().batch_size, Augmentation(*constants("cifar10")), 0))
    return len(batches(SearchS1() if stage == "s1" else SearchS2(), (blank, blank), 0, torch.device("cpu"))[0])


def final_learning_rate(stage: str) -> str:
    """Rate of the last generation or epoch to six significant digits; stages as in ``steps``."""
    if stage == "cifar":
        rate = cifar_lr(TrainSettings(), TrainSettings.epochs - 1)
    elif stage == "imagenet":
        rate = imagenet_lr(TrainImageNetSettings(), TrainImageNetSettings.epochs - 1)
    else:
        s = SearchS1() if stage == "s1" else SearchS2()
        rate = cosine(s.learning_rate, s.learning_rate_min, s.generations - 1, s.generations)
    return f"{rate:.6g}"


def final_drop_path() -> float:
    """Drop-path probability of the last epoch on CIFAR."""
    s = TrainSettings()
    return drop_path_probability(s.drop_path, s.epochs - 1, s.epochs)
