"""Workloads of NAO-V2 (timing.json beside the golden values); one CPU thread: OMP_NUM_THREADS=1.

Medians of CPU time of the original: search step 1.14 s, candidate scoring 2.02, training step 1.22, test pass 0.98,
controller step 0.075, one generation round 0.0285, size of one architecture 0.048.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from papers.nao_v2.method.controller import Controller
from papers.nao_v2.method.controller_training import controller_step
from papers.nao_v2.method.supernet_training import build_optimizer, score, supernet_step
from papers.nao_v2.networks.architectures import Shape, load, parse, to_tokens
from papers.nao_v2.networks.derived import Network
from papers.nao_v2.networks.operations import DropPath
from papers.nao_v2.networks.size import _cell, size_of
from papers.nao_v2.networks.supernet import Supernet

PATHS = [
    load("NAONet_V2"),
    parse("0 2 1 1 0 4 0 3 0 4 3 2 2 0 3 1 0 0 5 3 0 2 1 1 1 1 2 4 2 0 0 3 0 4 1 2 2 0 0 3"),
    parse("1 4 0 0 0 2 0 3 0 2 0 1 3 0 0 2 5 1 5 1 1 2 0 4 2 0 2 0 1 1 2 1 0 2 2 3 0 1 1 3"),
    parse("1 4 0 0 0 3 2 4 2 0 3 4 1 2 0 4 3 0 1 4 1 3 1 0 1 4 0 0 3 3 3 2 1 1 3 2 1 3 3 3"),
]


def timed(benchmark, function, rounds=5, warmup=2):
    """A few rounds when timing, one where benchmarks are disabled."""
    if benchmark.disabled:
        return benchmark(function)
    return benchmark.pedantic(function, rounds=rounds, warmup_rounds=warmup)


@pytest.fixture(scope="module")
def supernet():
    torch.manual_seed(0)
    return Supernet()


def test_search_step(benchmark, supernet):
    optimizer = build_optimizer(supernet, 0.9, 3e-4)
    optimizer.param_groups[0]["lr"] = 0.025
    supernet.train().drop_path = DropPath(0.9, 35200, 11)
    supernet.drop_path.step = 17600
    x, y, turn = torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,)), iter(range(10**6))
    if not benchmark.disabled:  # all parameters have gradients, as in the workload
        for p in supernet.parameters():
            p.grad = torch.zeros_like(p)
    timed(benchmark, lambda: supernet_step(supernet, PATHS[next(turn) % 4], (x, y), optimizer, 5.0, "zeros"), 8, 4)


def test_candidate_eval(benchmark, supernet):
    batch, turn = [(torch.randn(100, 3, 32, 32), torch.randint(0, 10, (100,)))], iter(range(10**6))
    timed(benchmark, lambda: score(supernet, PATHS[next(turn) % 4], batch), 8, 4)


def derived(auxiliary):
    torch.manual_seed(0)
    return Network(load("NAONet_V2"), Shape(channels=16, layers=2), auxiliary=auxiliary, dropout_keep=0.6)


def test_train_step(benchmark):
    network = derived(True).train()
    network.drop_path = DropPath(0.8, 234600, 8)
    network.drop_path.step = 117300
    optimizer = torch.optim.SGD(network.parameters(), 0.025, momentum=0.9, weight_decay=5e-4, foreach=True)
    x, y = torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))

    def step():
        optimizer.zero_grad()
        logits, auxiliary = network(x)
        (F.cross_entropy(logits, y) + 0.4 * F.cross_entropy(auxiliary, y)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()

    timed(benchmark, step)


@torch.inference_mode()
def test_eval_pass(benchmark):
    network, x = derived(False).eval(), torch.randn(100, 3, 32, 32)
    timed(benchmark, lambda: network(x))


def sequences():
    return torch.tensor([to_tokens(PATHS[k % 4]) for k in range(100)])


def test_controller_step(benchmark):
    torch.manual_seed(0)
    controller, tokens, target = Controller(), sequences(), torch.rand(100)
    optimizer = torch.optim.Adam(controller.parameters(), lr=0.001, foreach=True)
    timed(benchmark, lambda: controller_step(controller, tokens, target, optimizer, 5.0, 0.8), 20, 5)


def test_controller_generate(benchmark):
    torch.manual_seed(0)
    controller, tokens = Controller().eval(), sequences()
    timed(benchmark, lambda: controller.infer(tokens, 3.0), 20, 5)


def test_size_of_one_architecture(benchmark):
    def count():
        _cell.cache_clear()  # an architecture seen for the first time
        return size_of(PATHS[1], Shape(channels=20, layers=3))

    timed(benchmark, count, 50, 5)
