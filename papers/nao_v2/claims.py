"""Claims that code decides: sizes, the pool of seed 0, and the steps and rates of search and trainings."""

from __future__ import annotations

from functools import cache
from typing import Any

from papers.nao_v2.describe import describe
from papers.nao_v2.settings import TRAIN_VARIANTS, Describe, Search, Train


def macs_millions(name: str, dataset: str) -> float:
    """Multiply-adds of a derived network in millions, for rounded figures."""
    return describe(Describe(arch=name, dataset=dataset))["macs"] / 1e6


def supernet_parameters(space: str = "small", classes: int = 10) -> int:
    """Parameters of the search's supernet."""
    from papers.nao_v2.networks.supernet import Supernet

    return sum(p.numel() for p in Supernet(space=space, classes=classes).parameters())


def controller_parameters() -> int:
    """Parameters of the search's controller."""
    from papers.nao_v2.method.controller import Controller

    return sum(p.numel() for p in Controller().parameters())


def supernet_tensors() -> int:
    """Parameter tensors of the search's supernet."""
    from papers.nao_v2.networks.supernet import Supernet

    return len(list(Supernet().parameters()))


def first_controller_parameters() -> int:
    """Parameters of version 1's controller: 96 hidden, 48 embedded, predictor of 3 layers of 200."""
    from papers.nao_v2.method.controller import Controller

    return sum(p.numel() for p in Controller(embedding=48, hidden=96, mlp_layers=3, mlp_hidden=200).parameters())


def pool_size(what: str) -> float:
    """Parameters of the 1,000 architectures that a search with seed 0 starts from: least, most, mean; ``ratio`` of the
    largest architecture's probability to the smallest's.
    """
    from papers.nao_v2.method.balanced import policy

    found = _pool()
    p = policy(Search().sampling, found)
    assert p is not None
    return float({"least": found.min(), "most": found.max(), "mean": found.mean(), "ratio": p.max() / p.min()}[what])


def search_steps(epochs: int = 1) -> int:
    """Steps of so many epochs of the supernet's training on CIFAR-10."""
    from papers.nao_v2.data.sets import train_batches

    return epochs * len(train_batches(_split()[1], Search().batch_size, 0, "supernet"))


def training_steps(epochs: int = 1) -> int:
    """Steps of so many epochs of the training from scratch on CIFAR-10."""
    from common.data.sets import blank
    from papers.nao_v2.data.sets import train_batches

    return epochs * len(train_batches(blank("cifar10", 50_000), Train().batch_size, 0, "train"))


def search_rate(epoch: int) -> float:
    """Supernet's learning rate in an epoch of an iteration; a negative epoch counts from the end."""
    from papers.nao_v2.method.supernet_training import learning_rate

    c = Search()
    return learning_rate(c.restart, 0, epoch % c.epochs, c.epochs, c.lr, c.lr_min)


def training_rate(dataset: str, epoch: int, gpus: int = 1) -> float:
    """Learning rate in an epoch of the training from scratch; a negative epoch counts from the end."""
    from papers.nao_v2.train import recipe_of

    variant = {("imagenet", 1): "imagenet", ("imagenet", 4): "imagenet-4gpu"}.get((dataset, gpus), "authors")
    c = Train(**TRAIN_VARIANTS.get(variant, {}))
    return recipe_of(c, 1).rate(epoch % c.epochs)


@cache
def _pool() -> Any:
    """Sizes of seed 0's pool, drawn as the search draws it: the split first, from the same stream."""
    from papers.nao_v2.method.balanced import sizes
    from papers.nao_v2.method.pool import random_pool
    from papers.nao_v2.networks.architectures import SPACES, Shape

    c = Search()
    rng, _ = _split()
    architectures = random_pool(rng, c.seed_architectures, len(SPACES[c.space]))
    return sizes(architectures, Shape("cifar", c.channels, c.layers, 10, c.space))


def _split() -> tuple[Any, Any]:
    """(the search's numpy stream behind the split, the supernet's images)."""
    import numpy as np

    from common.data.sets import blank
    from papers.nao_v2.data.sets import split

    c, rng = Search(), np.random.RandomState(0)
    return rng, split(rng, blank("cifar10", 50_000), c.train_images, c.valid_images, 0)[0]
