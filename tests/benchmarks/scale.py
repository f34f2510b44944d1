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
from tests.benchmarks.workloads.place import Place, Step, counts

FULL, IMAGES = Place(), 2


@dataclass(frozen=True)
class Part:
    """A phase of a search: the step of so many images. fixed: some operations do not depend on their number."""

    make: Callable[[int], Step]
    images: int = IMAGES
    fixed: bool = False

    def counted(self) -> dict[str, float]:
        """Floating-point operations of an image and of a step besides, and operators of a step."""
        flops, operators = counts(self.make(self.images))
        more = counts(self.make(2 * self.images))[0] if self.fixed else 2 * flops
        return {"flops_an_image": (more - flops) / self.images, "flops_besides": 2.0 * flops - more,
                "operators": operators}  # fmt: skip


def cream_step(images: int) -> Step:
    searching = cream.Searching(FULL, 10, (CreamSearch().resolution, 1000, images))
    return lambda: searching.step(True)


def nsas_select(images: int) -> Step:
    rng, model = np.random.RandomState(0), build_supernet(16, 10, 8).eval()
    arch, logits_of, x = (sample_free(rng), sample_free(rng)), logits_function("softmax", False), FULL.pictures(images)
    return torch.no_grad()(lambda: logits_of(model, x, arch))


def sgnas_supernet(images: int) -> Step:
    macro, (x, y) = MACROS["imagenet"], FULL.batch(images, 224, 1000)
    net = Supernet(macro, 1000).train()
    optimizer, paths = PathSGD(net, 0.9, 4e-4), sample_paths(np.random.RandomState(0), len(macro.layers), 4)

    def step() -> None:
        supernet_gradients(net, x, y, paths)
        optimizer.step(0.064, paths)

    return step


def sgnas_generator(images: int) -> Step:
    macro, batch = MACROS["imagenet"], FULL.batch(images, 224, 1000)
    return sgnas.generator_step(FULL, macro, FixedSupernet(Supernet(macro, 1000).eval()), batch, 365.0)


STEPS: dict[str, dict[str, Part]] = {
    "evnas_darts": {
        "train": Part(lambda images: evnas.search_step(FULL, DARTS, images)),
        "fitness": Part(lambda images: evnas.fitness(FULL, DARTS, images)),
    },
    "evnas_nb201": {
        "train": Part(lambda images: evnas.search_step(FULL, NB201, images)),
        "fitness": Part(lambda images: evnas.fitness(FULL, NB201, images)),
    },
    "nsas": {
        "train": Part(lambda images: nsas.random_nas_step(FULL, 4, True, (16, 10, 8), images, "softmax")),
        "select": Part(nsas_select),
    },
    "nao_v2": {
        "train": Part(lambda _: nao_v2.search_step(FULL), 16),
        "score": Part(lambda _: nao_v2.candidate_eval(FULL), 100),
        "controller": Part(lambda _: nao_v2.controller_step(FULL), 100),
    },
    "cream": {"train": Part(cream_step, fixed=True)},
    "sgnas": {"train": Part(sgnas_supernet), "generator": Part(sgnas_generator)},
}
