"""Workloads of the original's speed table (its README's ``timing.json``), at its sizes, through the suite's own code.

``pytest tests/benchmarks/test_evnas.py --benchmark-timer=time.process_time`` times them one by one;
``OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/test_evnas.py`` prints each beside the original's CPU seconds,
also scaled by six plain torch kernels (calibration) to this machine.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
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

TIMING = Path(__file__).parents[1] / "golden" / "evnas" / "data" / "timing.json"


class Fixed:
    """Batches of one data set that is already in memory."""

    def __init__(self, images: int, batch: int) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(images, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
        y = torch.randint(0, 10, (images,), generator=generator)
        self.batches = list(zip(x.split(batch), y.split(batch)))


def population(space: Any, size: int) -> torch.Tensor:
    return Draws.stream(space, 0, "benchmark").population(size)


def search_step(space: Any, settings: Search, batch: int) -> Callable[[], Any]:
    """Decoding, one training step, metrics."""
    torch.manual_seed(0)
    model, train, people = supernet_of(settings, 10).train(), Fixed(batch, batch), population(space, 50)
    optimizer = sgd(model, settings)

    def run() -> float:
        individuals = mixtures(space, people[:1], True, 1.0)
        return descend(model, optimizer, train.batches, individuals[0], 5.0, "fp32", {"step": 0})

    return run


def fitness(space: Any, settings: Search, batch: int) -> Callable[[], Any]:
    """Decoding and one batch of one individual; where fitness folds the supernet, folding is timed too."""
    torch.manual_seed(0)
    model, valid, people = supernet_of(settings, 10), Fixed(batch, batch), population(space, 50)
    counter = TopK()

    def run() -> float:
        (individual,) = mixtures(space, people[:1], True, 1.0)
        measure(for_fitness(model, settings, "fp32"), valid.batches, individual, counter, "fp32")
        return score(counter)[2]

    return run


def cifar_train() -> Callable[[], Any]:
    """EvNASA, C = 36, 20 cells, auxiliary head, drop-path 0.1, batch 2."""
    torch.manual_seed(0)
    model = build(load_genotype("EvNASA"), False, 10, auxiliary=True).train()
    model.drop_path_prob = 0.1
    optimizer = torch.optim.SGD(model.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    batches, loss_of = Fixed(2, 2), auxiliary_loss(functional.cross_entropy, 0.4)
    return lambda: train_step(model, batches.batches[0], optimizer, loss_of, clip_norm=5.0)


def cifar_eval() -> Callable[[], Any]:
    """The same network in eval mode, 16 images as 2 x 8."""
    torch.manual_seed(0)
    model, batches = build(load_genotype("EvNASA"), False, 10, auxiliary=True), Fixed(16, 8)
    return lambda: evaluate(model, batches.batches).loss


def decode_50() -> Callable[[], Any]:
    people = population(DARTS, 50)
    return lambda: len(mixtures(DARTS, people, True, 1.0))


def generation_50() -> Callable[[], Any]:
    """Sort, tournaments of 10, crossover by rows, mutation."""
    people, scores = population(DARTS, 50), [float(i * 7 % 50) for i in range(50)]
    order = ranking(scores)
    ranked = [scores[k] for k in order]
    return lambda: len(evolve(people[order], ranked, Rules(), Draws.stream(DARTS, 0, "evolve")))


def decode_s2_20() -> Callable[[], Any]:
    people = population(NB201, 20)
    return lambda: len(mixtures(NB201, people, True, 1.0))


def augment_500() -> Callable[[], Any]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (500, 3, 32, 32), generator=generator, dtype=torch.uint8)
    transform = Augmentation(*constants("cifar10"), pad=4, flip=True, cutout=16)
    return lambda: len(apply(pixels, transform, generator))


WORKLOADS: dict[str, Callable[[], Callable[[], Any]]] = {
    "s1_search_step": lambda: search_step(DARTS, SearchDARTS(), 4),
    "s1_fitness_batch": lambda: fitness(DARTS, SearchDARTS(), 16),
    "s2_search_step": lambda: search_step(NB201, SearchNB201(), 8),
    "s2_fitness_batch": lambda: fitness(NB201, SearchNB201(), 32),
    "cifar_train_step": cifar_train,
    "cifar_eval_pass": cifar_eval,
    "s1_decode_50": decode_50,
    "ga_generation_50": generation_50,
    "s2_decode_and_assert_20": decode_s2_20,
    "s1_augment_500": augment_500,
}


def kernels() -> dict[str, Callable[[], Any]]:
    """The calibration kernels under the names of timing.json."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    x, full, deep = torch.randn(16, 64, 32, 32), torch.randn(64, 64, 3, 3), torch.randn(64, 1, 5, 5)
    mean, var = torch.zeros(64), torch.ones(64)

    def times(n: int, run: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: [run() for _ in range(n)]

    return {
        "torch.mm 1024x1024 by 1024x1024, 10 calls": times(10, lambda: torch.mm(a, b)),
        "conv2d 64->64 3x3 pad 1 on 16x64x32x32, 5 calls": times(5, lambda: functional.conv2d(x, full, padding=1)),
        "conv2d depthwise 5x5 pad 2 on 16x64x32x32, 5 calls": times(
            5, lambda: functional.conv2d(x, deep, padding=2, groups=64)
        ),
        "max_pool2d 3 stride 1 pad 1 on 16x64x32x32, 5 calls": times(5, lambda: functional.max_pool2d(x, 3, 1, 1)),
        "avg_pool2d 3 stride 1 pad 1 count_include_pad False, same input, 5 calls": times(
            5, lambda: functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        ),
        "batch norm (train, no affine) same input, 5 calls": times(
            5, lambda: functional.batch_norm(x, mean, var, None, None, True)
        ),
    }


@pytest.mark.parametrize("name", WORKLOADS)
def test_workload(benchmark: Any, name: str) -> None:
    """Median time of one call; the original's CPU seconds stand in the extra information."""
    run = WORKLOADS[name]()
    benchmark.extra_info["original_cpu_s"] = originals().workloads[name]
    assert math.isfinite(float(benchmark(run)))


def originals() -> SimpleNamespace:
    """The original's CPU seconds per workload and kernel."""
    content = json.loads(TIMING.read_text())
    return SimpleNamespace(
        workloads={name: entry["cpu_s"] for name, entry in content["workloads"].items()},
        kernels=content["calibration"]["values"],
    )


def test_every_workload_and_kernel_of_the_original_is_timed() -> None:
    assert set(WORKLOADS) == set(originals().workloads)
    assert set(kernels()) == set(originals().kernels)


def cpu_seconds(run: Callable[[], Any], repeats: int) -> float:
    """Median process time after one warm-up call."""
    run()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def table() -> None:
    """Print the comparison; one thread."""
    torch.set_num_threads(1)
    original = originals()
    with torch.no_grad():
        ratios = [cpu_seconds(run, 9) / original.kernels[name] for name, run in kernels().items()]
    machine = math.exp(statistics.fmean(map(math.log, ratios)))
    print(f"this machine takes {machine:.2f} of the original's time for the calibration kernels")
    print(f"{'workload':<26}{'ours':>9}{'original':>10}{'ratio':>8}{'scaled':>8}")
    for name, make in WORKLOADS.items():
        ours, theirs = cpu_seconds(make(), 7), original.workloads[name]
        print(f"{name:<26}{ours:>9.4f}{theirs:>10.4f}{theirs / ours:>8.2f}{machine * theirs / ours:>8.2f}")


if __name__ == "__main__":
    sys.exit(table())
