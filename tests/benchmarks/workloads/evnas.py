"""EvNAS: the search's steps in both spaces, training, evaluation, and what surrounds them.

How the original is timed on the same machine: its functions are called with device "cpu" instead of CUDA on random data
already in memory, dropout masks drawn on the CPU, one thread, ``time.process_time`` around the call, the median of
seven after one to warm up; peak memory is that of the process, imports included.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from common.data.augment import Augmentation, apply
from common.train.loop import auxiliary_loss, evaluate, train_step
from common.train.losses import TopK
from papers.evnas.method.evolution import Draws, Rules, evolve, ranking
from papers.evnas.method.population import DARTS, NB201, mixtures
from papers.evnas.networks.architectures import build, constants, load_genotype
from papers.evnas.search import descend, for_fitness, measure, score, sgd, supernet_of
from papers.evnas.settings import Search, SearchDARTS, SearchNB201
from tests.benchmarks.workloads.place import Place, Step, Workload


def population(space: Any, size: int) -> torch.Tensor:
    return Draws.stream(space, 0, "benchmark").population(size)


def settings_of(at: Place, space: Any) -> Search:
    if space is DARTS:
        return at.size(SearchDARTS(), SearchDARTS(channels=4, layers=3))
    return at.size(SearchNB201(), SearchNB201(channels=4, cells_per_stage=1))


def search_step(at: Place, space: Any, images: int) -> Step:
    settings = settings_of(at, space)
    model = supernet_of(settings, 10).to(at.device).train()
    optimizer, people, batch = sgd(model, settings), population(space, 50), at.batch(images)

    def step() -> float:
        individuals = mixtures(space, people[:1], True, 1.0)
        return descend(model, optimizer, [batch], individuals[0], 5.0, "fp32", {"step": 0})

    return step


def fitness(at: Place, space: Any, images: int) -> Step:
    settings = settings_of(at, space)
    model = supernet_of(settings, 10).to(at.device)
    people, batch, counter = population(space, 50), at.batch(images), TopK(torch.device(at.device))

    def step() -> float:
        (individual,) = mixtures(space, people[:1], True, 1.0)
        measure(for_fitness(model, settings, "fp32"), [batch], individual, counter, "fp32")
        return score(counter)[2]

    return step


def s1_search_step(at: Place) -> Step:
    """Search step, DARTS space, C 16, 8 cells, batch 4: decode, forward, backward, clip, SGD.

    Original: the body of its training loop for one individual of 50, equality check and meters included.
    """
    return search_step(at, DARTS, at.size(4, 2))


def s1_fitness_batch(at: Place) -> Step:
    """Fitness of one individual, DARTS space, one batch of 16, statistics of the batch. Original: its
    fitness pass over one batch, decoding included."""
    return fitness(at, DARTS, at.size(16, 2))


def s2_search_step(at: Place) -> Step:
    """Search step, NAS-Bench-201, C 16, 5 cells a stage, batch 8.

    Original: the body of its training loop with decoding and the assertion on data frames.
    """
    return search_step(at, NB201, at.size(8, 2))


def s2_fitness_batch(at: Place) -> Step:
    """Fitness of one individual, NAS-Bench-201, one batch of 32, folding the supernet included. Original:
    its fitness pass."""
    return fitness(at, NB201, at.size(32, 2))


def network(at: Place) -> torch.nn.Module:
    channels, layers = at.size((36, 20), (4, 3))
    return build(load_genotype("EvNASA"), False, 10, channels, layers, auxiliary=True).to(at.device)


def cifar_train_step(at: Place) -> Step:
    """Training step, EvNASA, C 36, 20 cells, auxiliary head, drop path 0.1, batch 2. Original: the same step."""
    model, batch = network(at).train(), at.batch(2)
    model.drop_path_prob = 0.1
    optimizer = torch.optim.SGD(model.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    loss_of = auxiliary_loss(functional.cross_entropy, 0.4)
    return lambda: train_step(model, batch, optimizer, loss_of, clip_norm=5.0)


def cifar_eval_pass(at: Place) -> Step:
    """Evaluation, the same network, 16 images as 2 x 8. Original: its test pass."""
    model, (x, y) = network(at), at.batch(at.size(16, 4))
    batches = list(zip(x.split(len(x) // 2), y.split(len(x) // 2)))
    return lambda: evaluate(model, batches).loss


def s1_decode_50(at: Place) -> Step:
    """Decoding 50 individuals of the DARTS space. Original: the same by comparisons of tensors, one by one."""
    people = population(DARTS, 50)
    return lambda: len(mixtures(DARTS, people, True, 1.0))


def ga_generation_50(at: Place) -> Step:
    """One evolution of 50: sort, tournaments of 10, crossover by rows, mutation. Original: the same."""
    people, scores = population(DARTS, 50), [float(i * 7 % 50) for i in range(50)]
    order = ranking(scores)
    ranked = [scores[k] for k in order]
    return lambda: len(evolve(people[order], ranked, Rules(), Draws.stream(DARTS, 0, "evolve")))


def s2_decode_and_assert_20(at: Place) -> Step:
    """Decoding 20 individuals of NAS-Bench-201. Original: decoding and its assertion on data frames, 20 times."""
    people = population(NB201, 20)
    return lambda: len(mixtures(NB201, people, True, 1.0))


def s1_augment_500(at: Place) -> Step:
    """Crop, flip, normalise and cut out 500 images. Original: its torchvision transforms, image by image."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (500, 3, 32, 32), generator=generator, dtype=torch.uint8)
    transform = Augmentation(*constants("cifar10"), pad=4, flip=True, cutout=16)
    return lambda: len(apply(pixels, transform, generator))


WORKLOADS = {
    "s1_search_step": Workload(s1_search_step, 4),
    "s1_fitness_batch": Workload(s1_fitness_batch, 16),
    "s2_search_step": Workload(s2_search_step, 8),
    "s2_fitness_batch": Workload(s2_fitness_batch, 32),
    "cifar_train_step": Workload(cifar_train_step, 2),
    "cifar_eval_pass": Workload(cifar_eval_pass, 16),
    "s1_decode_50": Workload(s1_decode_50, 50, gpu=False),
    "ga_generation_50": Workload(ga_generation_50, 50, gpu=False),
    "s2_decode_and_assert_20": Workload(s2_decode_and_assert_20, 20, gpu=False),
    "s1_augment_500": Workload(s1_augment_500, 500, gpu=False),
}
