"""How costs grow, at small sizes: a curve is a workload with one of its sizes left open.

The papers' originals are not timed here: what grows is said, how fast is the method's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from common.train.losses import TopK
from papers.evnas.method.evolution import Draws, evolve
from papers.evnas.method.population import DARTS, NB201, mixtures
from papers.evnas.search import for_fitness, measure, rules, score, supernet_of
from papers.nao_v2.method.controller import Controller
from papers.nao_v2.method.supernet_training import score as score_path
from papers.nsas.method.novelty import Archive
from papers.nsas.method.sampling import sample_free
from papers.sgnas.method.generator import Generator
from papers.sgnas.method.generator_training import generate_ops
from papers.sgnas.method.prior import PriorPool
from papers.sgnas.networks.architectures import MACROS
from tests.benchmarks.workloads import cream, evnas, nao_v2, nsas, sgnas
from tests.benchmarks.workloads.place import Place, Step

SMALL = Place(full=False)


@dataclass(frozen=True)
class Curve:
    """Seconds of ``make(size)()`` against size. ``axis``: what is counted; ``step``: what is timed."""

    paper: str
    axis: str
    step: str
    sizes: tuple[int, ...]
    make: Callable[[int], Step]


def generation(population: int) -> Step:
    settings = evnas.settings_of(SMALL, NB201)
    model, people = supernet_of(settings, 10), evnas.population(NB201, population)
    batch, counter = SMALL.batch(32), TopK()

    def step() -> float:
        forward, scores = for_fitness(model, settings, "fp32"), []
        for individual in mixtures(NB201, people, True, 1.0):
            measure(forward, [batch], individual, counter, "fp32")
            scores.append(score(counter)[0])
        order = np.argsort(scores, kind="stable")[::-1].copy()
        ranked = [scores[k] for k in order]
        return len(evolve(people[order], ranked, rules(settings), Draws.stream(NB201, 0, "evolve")))

    return step


def novelty(candidates: int) -> Step:
    rng = np.random.RandomState(0)
    drawn = [sample_free(rng) for _ in range(candidates + 9)]

    def step() -> int | None:
        archive = Archive(8, candidates=candidates, members=drawn[:7], recent=drawn[7:8])
        cells = iter(drawn[8:])
        return archive.update(drawn[0], lambda: next(cells))

    return step


def pool(candidates: int) -> Step:
    net, batches = nao_v2.supernet(SMALL), [SMALL.batch(32)]
    return lambda: [score_path(net, nao_v2.PATHS[k % 4], batches) for k in range(candidates)]


def decoding(sequences: int) -> Step:
    controller = Controller().eval()
    tokens = nao_v2.sequences(SMALL, sequences)
    return lambda: controller.infer(tokens, 3.0)


def board(entries: int) -> Step:
    searching = cream.Searching(SMALL, entries)
    return lambda: searching.step(True)


def targets(count: int) -> Step:
    network, layers = Generator().eval(), len(MACROS["imagenet"].layers)
    prior = PriorPool({320.0: sgnas.flat_prior(SMALL, layers)}, 270.0, 450.0, "")
    wanted = np.linspace(280, 440, count).tolist()
    return torch.no_grad()(lambda: generate_ops(network, prior, wanted))


CURVES = {
    "evnas_population": Curve(
        "EvNAS", "individuals", "fitness and evolution of a generation", (10, 20, 30, 40), generation
    ),
    "evnas_images": Curve(
        "EvNAS", "images of a batch", "a search step, DARTS space", (2, 4, 8, 16),
        lambda images: evnas.search_step(SMALL, DARTS, images),
    ),
    "nsas_constraints": Curve(
        "NSAS", "constraints M", "a search step", (0, 1, 2, 4, 8, 16),
        lambda constraints: nsas.random_nas_step(SMALL, constraints, True),
    ),
    "nsas_candidates": Curve("NSAS", "candidates", "choice of a constraint by novelty", (10, 20, 40, 80), novelty),
    "nao_v2_candidates": Curve("NAO-V2", "candidates", "scores along their paths", (4, 8, 16, 32), pool),
    "nao_v2_sequences": Curve("NAO-V2", "architectures", "a generation round", (10, 30, 100, 300), decoding),
    "cream_board": Curve("Cream", "entries of the board", "a search step", (1, 2, 5, 10, 20), board),
    "sgnas_targets": Curve("SGNAS", "targets", "architectures for them", (1, 4, 16, 64, 256), targets),
}  # fmt: skip
