"""Claims that need no training: rounded sizes, keys, mixtures, schedules, and the cells of the NAS-Bench-201 tables."""

from __future__ import annotations

import numpy as np
import torch

from common.data.augment import Augmentation
from common.data.batches import Batches, Order
from common.data.nasbench201 import Table
from common.data.pictures.batches import EvalPictures, FolderBatches
from common.data.pictures.sets import blank_pictures
from common.data.sets import blank
from common.spaces.darts.train import drop_path_probability
from common.train.schedules import cosine
from papers.evnas.data import SearchData, batches
from papers.evnas.describe import describe
from papers.evnas.method.evolution import Draws
from papers.evnas.method.population import SPACES, mixtures
from papers.evnas.networks.architectures import CLASSES, build, constants, load_genotype
from papers.evnas.settings import Describe, SearchDARTS, SearchNB201, Train, TrainImageNet
from papers.evnas.train import rate

SEARCHES = {"darts": SearchDARTS, "nb201": SearchNB201}


def millions(name: str, dataset: str, key: str) -> float:
    """A count of a published network in millions, for the rounded figures of the tables."""
    return describe(Describe(name, dataset))[key] / 1e6


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
    leaves out (DARTS). Raises ValueError unless all operations of that kind weigh the same.
    """
    of, beta = SPACES[space], SEARCHES[space]().beta
    population = Draws.stream(of, 0, "population").population(1)
    weights = mixtures(of, population, True, beta)[0]
    if space == "darts":
        weights = torch.tensor(weights[0] + weights[1])
    chosen = of.decode(population[0], beta) > 0
    row = chosen.any(-1, keepdim=True)
    of_kind = {"chosen": chosen, "other": row & ~chosen, "unchosen": ~row & ~chosen}[which]
    (weight,) = {round(w, 9) for w in weights[of_kind].tolist()}
    return weight


def steps(stage: str, images: int) -> int:
    """Batches in an epoch of so many images: darts, nb201 (search), cifar, imagenet (training)."""
    if stage == "imagenet":
        pictures = blank_pictures("imagenet", images, CLASSES["imagenet"])
        return len(FolderBatches(pictures, TrainImageNet().batch_size, EvalPictures(), Order(0)))
    black = blank("cifar10", images)
    if stage == "cifar":
        return len(Batches(black, Train().batch_size, Augmentation(*constants("cifar10")), Order(0)))
    return len(batches(SEARCHES[stage](), SearchData(black, black, "", {}), 0, torch.device("cpu"))[0])


def final_lr(stage: str) -> str:
    """Rate of the last generation or epoch to six significant digits; stages as in ``steps``."""
    if stage in SEARCHES:
        s = SEARCHES[stage]()
        return f"{cosine(s.lr, s.lr_min, s.generations - 1, s.generations):.6g}"
    recipe = TrainImageNet() if stage == "imagenet" else Train()
    return f"{rate(recipe, recipe.epochs - 1):.6g}"


def final_drop_path() -> float:
    """Drop-path probability of the last epoch on CIFAR."""
    return drop_path_probability(Train().drop_path, Train().epochs - 1, Train().epochs)
