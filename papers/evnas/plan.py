"""``--plan`` of search, training and evaluation. Data are opened as the run opens them, so its mistakes are found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from common.spaces.darts.plan import plan_testing, plan_training
from papers.evnas.data import batches, open_search_data
from papers.evnas.evaluate import load
from papers.evnas.networks import build, load_genotype
from papers.evnas.search import supernet_of
from papers.evnas.settings import Evaluate, Search, SearchDARTS, SearchNB201, Train, TrainImageNet
from papers.evnas.train import open_data

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

CPU = torch.device("cpu")


def plan_search(settings: Search, options: RunOptions) -> list[str]:
    """Images per generation, size of the supernet, time and memory."""
    data = open_search_data(settings, options)
    batches(settings, data, options.seed, CPU)  # finds what cannot be shared out
    train, fit = len(data.train), len(data.fitness)
    supernet = supernet_of(settings, len(data.train.classes))
    weights = sum(p.numel() for p in supernet.parameters() if p.requires_grad)
    measured = 1 if settings.strategy == "random" else settings.generations
    passes = settings.population * fit
    return [
        f"{data.train.name}: {train} images for the weights, {fit} for the fitness ({data.origin})",
        f"supernet of {weights:,} weights, {settings.population} individuals, {settings.generations} generations",
        f"training: {settings.generations} x {-(-train // settings.batch_size)} steps of {settings.batch_size} images",
        f"fitness: {measured} x {passes:,} images forward ({settings.population} individuals)",
        estimate(settings, data.train.size, settings.generations * train, measured * passes),
    ]


def estimate(settings: Search, pixels: int, trained: int, measured: int) -> str:
    """Time on one core and memory, scaled from the cost of the published supernets (rough: a factor of two)."""
    if isinstance(settings, SearchNB201):
        depth, step, forward, memory = settings.cells_per_stage / 5, 0.05, 0.012, 0.05  # seconds, GB an image
    else:
        assert isinstance(settings, SearchDARTS)
        depth, step, forward, memory = settings.layers / 8, 0.25, 0.03, 0.1
    scale = depth * (settings.channels / 16) ** 1.3 * (pixels / 32) ** 2
    hours = scale * (step * trained + forward * measured) / 3600
    return f"about {hours:.2g} h on one CPU core, {0.3 + scale * settings.batch_size * memory:.1f} GB of memory"


def plan_train(settings: Train | TrainImageNet, options: RunOptions) -> list[str]:
    """Both recipes."""
    data = open_data(settings, options, CPU)
    with torch.device("meta"):  # only shapes are counted
        network = build(
            load_genotype(settings.arch), isinstance(settings, TrainImageNet), len(data.classes), settings.channels,
            settings.layers,
        )  # fmt: skip
    tests = data.judged[data.judge]  # what is looked at after an epoch
    return plan_training(settings, network, data.pixels, data.train, tests)


def plan_evaluate(settings: Evaluate, options: RunOptions) -> list[str]:
    """One pass over the test set."""
    settings, _, form, genotype, test, tests = load(settings, options, CPU)
    with torch.device("meta"):
        network = build(genotype, form.imagenet, len(test.classes), form.channels, form.layers)
    name, pixels = settings.arch or "the file's architecture", 224 if form.imagenet else test.size
    return plan_testing(name, network, form.channels, pixels, len(test), tests.batch_size)
