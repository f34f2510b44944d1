"""Claims that need no training: sizes of space and networks, steps, rates, and what the published generator gives."""

from __future__ import annotations

from itertools import product
from typing import Any

from papers.sgnas.describe import counts, description
from papers.sgnas.networks.architectures import MACROS, OPS, PUBLISHED, SKIP, SUB_BLOCKS, kernels_of


def millions(name: str, key: str) -> float:
    """A count of a published network in millions, for the rounded figures of the model zoo."""
    return description(name, "imagenet")[key] / 1e6


def plain(name: str, structure: str, key: str) -> float:
    """parameters, or mflops, of a published network without squeeze-excite; 1000 classes on imagenet, 100 on cifar."""
    found = counts(PUBLISHED[name], MACROS[structure], 1000 if structure == "imagenet" else 100, se=False)
    return found["macs_published"] / 1e6 if key == "mflops" else found[key]


def table_mflops(structure: str, kernel: int = 0, count: int = 0) -> float:
    """Cost by the look-up table of ``count`` sub-blocks of one kernel size in every layer; 0 sub-blocks: its base."""
    from papers.sgnas.method.lookup import cost_of_ops, macs_table

    lookup = macs_table(MACROS[structure])
    if not count:
        return lookup.base
    row = [(kernel - 3) // 2] * count + [SKIP] * (SUB_BLOCKS - count)
    return cost_of_ops(lookup, [row] * len(lookup.expand))


def space_size(what: str) -> Any:
    """``codes`` of a layer; distinct networks of a ``layer``, and (to one digit) of the 19 layers: ``networks``."""
    codes = [row for row in product(range(OPS), repeat=SUB_BLOCKS) if row[0] != SKIP]
    if what == "codes":
        return len(codes)
    distinct = len({tuple(sorted(kernels)) for kernels in kernels_of(codes)})
    return distinct if what == "layer" else f"{distinct ** len(MACROS['imagenet'].layers):.0e}"


def supernet_size(structure: str, classes: int, what: str) -> int:
    """parameters, or state entries, of the supernet as the authors store it: with one convolution per skip, which ours
    leaves out, and a counter per normalisation.
    """
    from papers.sgnas.networks.published_keys import supernet_to_published
    from papers.sgnas.networks.supernet import Supernet

    supernet = Supernet(MACROS[structure], classes)
    skips = [c * c for c in supernet.macro.in_channels for _ in range(SUB_BLOCKS)]
    if what == "parameters":
        return sum(p.numel() for p in supernet.parameters()) + sum(skips)
    names = set(supernet_to_published(supernet.state_dict(), supernet))
    counters = {name.replace("running_mean", "num_batches_tracked") for name in names if "running_mean" in name}
    return len(names | counters) + len(skips)


def generator_parameters() -> int:
    """Parameters of the architecture generator."""
    from papers.sgnas.method.generator import Generator

    return sum(p.numel() for p in Generator().parameters())


def target_count(low: float, high: float) -> int:
    """Targets that the generator is trained with."""
    from papers.sgnas.method.generator_training import target_pool
    from papers.sgnas.settings import SearchGenerator

    return len(target_pool(low, high, SearchGenerator().target_step))


def generator_steps(epochs: int) -> int:
    """Steps of so many epochs over the generator's images on ImageNet."""
    import torch

    from papers.sgnas.data import sets as datasets
    from papers.sgnas.data.split import Split
    from papers.sgnas.settings import SearchGenerator

    c = SearchGenerator()
    _, images = Split(c.train_portion, c.train_images, c.search_images).parts(datasets.stand_in(c.dataset, "train"))
    batches = datasets.Loaders(c.dataset, 0, torch.device("cpu"))
    return epochs * len(batches(images, c.batch_size, "validation", "generator"))


def training_steps(dataset: str, epochs: int = 1) -> int:
    """Steps of so many epochs of the published training from scratch."""
    import torch

    from papers.sgnas.data import sets as datasets
    from papers.sgnas.train import training_batches

    images = datasets.stand_in(dataset, "train")
    return epochs * len(training_batches(_training(dataset), images, 0, torch.device("cpu")))


def training_rate(dataset: str, epoch: int) -> float:
    """Learning rate at an epoch's first step; a negative epoch counts from the end."""
    from papers.sgnas.train import rate

    c = _training(dataset)
    return rate(c, epoch if epoch >= 0 else c.epochs + epoch, 0, training_steps(dataset))


def _training(dataset: str) -> Any:
    from papers.sgnas.settings import CIFAR_TRAIN, Train

    preset: dict[str, Any] = {} if dataset == "imagenet" else dict(CIFAR_TRAIN)
    return Train(**preset)


def generated(target: float, key: str) -> float:
    """lookup (MFLOPs), parameters, macs_published of what the published generator gives; ``same``: 1 if the kernels are
    those of the published network with that target.
    """
    from papers.sgnas.method.trained_generator import load_generator
    from papers.sgnas.networks.architectures import PUBLISHED_TARGETS

    trained = load_generator("published")
    kernels, cost = trained.kernels([float(target)])[0]
    if key == "lookup":
        return cost
    if key == "same":
        return float(any(PUBLISHED[n] == kernels for n, t in PUBLISHED_TARGETS.items() if t == float(target)))
    return float(counts(kernels, trained.macro, 1000, True)[key])


def fit(key: str) -> float:
    """kendall_tau or total_hardware_loss of the published generator over 270, 280, … 440."""
    from papers.sgnas.method.generator_training import fit_to_targets
    from papers.sgnas.method.trained_generator import load_generator

    trained = load_generator("published")
    found = fit_to_targets(trained.network, trained.lookup, trained.pool, 10.0)
    return {"kendall_tau": found.kendall, "total_hardware_loss": found.total}[key]


def prior_is_first_draw() -> float:
    """1 if the published prior is what the sampler accepts first from NumPy's legacy generator with seed 42."""
    import numpy as np

    from papers.sgnas.method.lookup import one_hot
    from papers.sgnas.method.prior import find_prior
    from papers.sgnas.method.trained_generator import load_generator

    trained: Any = load_generator("published")
    drawn = find_prior(trained.lookup, 360.0, np.random.RandomState(42))
    stored = trained.pool.nearest(360.0).view(-1, 6, 4).argmax(-1)
    return float(kernels_of(drawn) == kernels_of(stored.tolist()) and one_hot(stored).sum() == 19 * 6)


def prior_cost() -> float:
    """MFLOPs of the published prior by the look-up table."""
    from papers.sgnas.method.trained_generator import load_generator

    trained: Any = load_generator("published")
    return float(trained.lookup.cost(trained.pool.nearest(360.0).view(-1, SUB_BLOCKS, OPS)))
