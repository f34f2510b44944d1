"""``torchrun --nproc-per-node N -m tests.benchmarks.processes [--small]``: seconds of a step whose batch N processes
share.

One thread a process; wall seconds, since processes wait for each other: the machine must have nothing else to do.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time

import numpy as np
import torch

from common.run import distributed
from papers.evnas.method.population import NB201, mixtures
from papers.evnas.search import descend, sgd, supernet_of
from papers.nao_v2.method.supernet_training import build_optimizer, supernet_step
from papers.sgnas.method.sampling import sample_paths
from papers.sgnas.method.supernet_training import PathSGD, supernet_gradients
from papers.sgnas.networks.supernet import Supernet
from tests.benchmarks.workloads import evnas, nao_v2, sgnas
from tests.benchmarks.workloads.place import Place, Step

ROUNDS = 3


def share(at: Place, images: int, classes: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """This process's share of a batch."""
    limits = distributed.per_process().limits(images)
    x, y = at.batch(images, classes=classes)
    mine = slice(limits[0], limits[-1])
    return x[mine], y[mine]


def evnas_step(at: Place) -> Step:
    settings = evnas.settings_of(at, NB201)
    model = supernet_of(settings, 10).train()
    optimizer, batch = sgd(model, settings), share(at, at.size(16, 8))
    (individual,) = mixtures(NB201, evnas.population(NB201, 1), True, 1.0)
    return lambda: descend(model, optimizer, [batch], individual, 5.0, "fp32", {"step": 0})


def nao_v2_step(at: Place) -> Step:
    net = nao_v2.supernet(at).train()
    optimizer, batch = build_optimizer(net, 0.9, 3e-4), share(at, at.size(16, 8))
    optimizer.param_groups[0]["lr"] = 0.025
    turn = itertools.cycle(nao_v2.PATHS)
    return lambda: supernet_step(net, next(turn), [batch], optimizer, 5.0, "zeros")


def sgnas_step(at: Place) -> Step:
    macro, (x, y) = sgnas.cifar(at), share(at, at.size(16, 8), 100)
    paths = sample_paths(np.random.RandomState(0), len(macro.layers), 4)
    net = Supernet(macro, 100)
    optimizer = PathSGD(net, 0.9, 4e-4)

    def step() -> None:
        supernet_gradients(net, x, y, paths)
        optimizer.step(0.064, paths)

    return step


STEPS = {"evnas": evnas_step, "nao_v2": nao_v2_step, "sgnas": sgnas_step}


def main(*flags: str) -> None:
    torch.set_num_threads(1)
    distributed.setup()
    at, found = Place(full="--small" not in flags), {}
    for paper, make in STEPS.items():
        torch.manual_seed(0)
        step, taken = make(at), []
        for _ in range(ROUNDS + 2):
            distributed.barrier()
            start = time.perf_counter()
            step()
            taken.append(time.perf_counter() - start)
        found[paper] = statistics.median(taken[2:])
    if distributed.rank() == 0:
        print(json.dumps(found))
    distributed.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
