"""Steps of the published searches at their own sizes, with few images: what a run at the papers' scale is reckoned
from.

``STEPS[search][phase]`` builds a step, ``images`` of which it goes through; floating-point operations grow with the
images and with nothing else, operators do not grow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from papers.cream.settings import Search as CreamSearch
from papers.evnas.method.population import DARTS, NB201
from papers.nsas.method.sampling import sample_free
from papers.nsas.networks.paths import logits_function
from papers.nsas.networks.supernet import build_supernet
from papers.sgnas.method.sampling import sample_paths
from papers.sgnas.method.supernet_training import PathSGD, supernet_gradients
from papers.sgnas.networks.architectures import MACROS
from papers.sgnas.networks.fixed_supernet import FixedSupernet
from papers.sgnas.networks.supernet import Supernet
from tests.benchmarks.workloads import cream, evnas, nao_v2, nsas, sgnas
from tests.benchmarks.workloads.place import Place, Step

FULL, IMAGES = Place(), 2


@dataclass(frozen=True)
class Part:
    """A phase of a search: its step, and the images of it."""

    make: Callable[[], Step]
    images: int = IMAGES


def cream_step(board: int) -> Step:
    searching = cream.Searching(FULL, board, (CreamSearch().resolution, 1000, IMAGES))
    return lambda: searching.step(True)


def nsas_select() -> Step:
    rng, model = np.random.RandomState(0), build_supernet(16, 10, 8).eval()
    arch, logits_of, x = (sample_free(rng), sample_free(rng)), logits_function("softmax", False), FULL.pictures(IMAGES)
    return torch.no_grad()(lambda: logits_of(model, x, arch))


def sgnas_supernet() -> Step:
    macro, (x, y) = MACROS["imagenet"], FULL.batch(IMAGES, 224, 1000)
    net = Supernet(macro, 1000).train()
    optimizer, paths = PathSGD(net, 0.9, 4e-4), sample_paths(np.random.RandomState(0), len(macro.layers), 4)

    def step() -> None:
        supernet_gradients(net, x, y, paths)
        optimizer.step(0.064, paths)

    return step


def sgnas_generator() -> Step:
    macro, batch = MACROS["imagenet"], FULL.batch(IMAGES, 224, 1000)
    return sgnas.generator_step(FULL, macro, FixedSupernet(Supernet(macro, 1000).eval()), batch, 365.0)


STEPS: dict[str, dict[str, Part]] = {
    "evnas_darts": {
        "train": Part(lambda: evnas.search_step(FULL, DARTS, IMAGES)),
        "fitness": Part(lambda: evnas.fitness(FULL, DARTS, IMAGES)),
    },
    "evnas_nb201": {
        "train": Part(lambda: evnas.search_step(FULL, NB201, IMAGES)),
        "fitness": Part(lambda: evnas.fitness(FULL, NB201, IMAGES)),
    },
    "nsas": {
        "train": Part(lambda: nsas.random_nas_step(FULL, 4, True, (16, 10, 8), IMAGES, "softmax")),
        "select": Part(nsas_select),
    },
    "nao_v2": {
        "train": Part(lambda: nao_v2.search_step(FULL), 16),
        "score": Part(lambda: nao_v2.candidate_eval(FULL), 100),
        "controller": Part(lambda: nao_v2.controller_step(FULL), 100),
    },
    "cream": {"train": Part(lambda: cream_step(10))},
    "sgnas": {"train": Part(sgnas_supernet), "generator": Part(sgnas_generator)},
}
