"""SGNAS: supernet step, generator step, training, evaluation, an architecture from a target (W1 to W5).

How the original is timed on the same machine: its functions are called on the CPU with device moves left out, no data
loading, one thread, ``time.process_time`` around the call, the median of five to nine after one to warm up; peak memory
is that of the process. ``test_sgnas.py`` times a plain form of the same work in the same process.
"""

from __future__ import annotations

import numpy as np
import torch

from common.train.loop import train_step
from common.train.losses import label_smoothing_cross_entropy
from papers.sgnas.method.generator import Generator, arg_max_ops, normalise
from papers.sgnas.method.generator_training import build_optimizer
from papers.sgnas.method.lookup import hardware_loss, macs_table, one_hot
from papers.sgnas.method.sampling import sample_paths
from papers.sgnas.method.supernet_training import PathSGD, supernet_gradients
from papers.sgnas.networks.architectures import MACROS, PUBLISHED, SKIP, Macro
from papers.sgnas.networks.derived import Network, fold
from papers.sgnas.networks.fixed_supernet import FixedSupernet
from papers.sgnas.networks.supernet import Supernet
from tests.benchmarks.workloads.place import Place, Step, Workload


def cifar(at: Place) -> Macro:
    return MACROS[at.size("cifar", "tiny")]


def uniform_p(layers: int, out: torch.Tensor) -> torch.Tensor:
    """All operations on with equal shares, kept connected to the generator's output."""
    zeros = (0.0 * out).clone()
    blocked = torch.zeros(6, 4, dtype=torch.bool, device=out.device)
    blocked[0, SKIP] = True
    return torch.softmax(zeros.masked_fill(blocked, -torch.inf), -1).view(layers, 6, 4)


def flat_prior(at: Place, layers: int) -> torch.Tensor:
    return one_hot(torch.zeros(layers, 6, dtype=torch.long)).view(layers, 24).to(at.device)


def w1_supernet_step(at: Place) -> Step:
    """W1: supernet step, CIFAR-100 space, batch 16, four paths. Original: reset, four passes, SGD step."""
    macro, (x, y) = cifar(at), at.batch(at.size(16, 2), classes=100)
    paths = sample_paths(np.random.RandomState(0), len(macro.layers), 4)
    net = Supernet(macro, 100).to(at.device)
    optimizer = PathSGD(net, 0.9, 4e-4)

    def step() -> None:
        supernet_gradients(net, x, y, paths)
        optimizer.step(0.064, paths)

    return step


def w2_generator_step(at: Place) -> Step:
    """W2: generator step, same supernet, batch 16, all operations on. Original: supernet weights require gradients."""
    macro = cifar(at)
    net = FixedSupernet(Supernet(macro, 100).to(at.device).eval())
    return generator_step(at, macro, net, at.batch(at.size(16, 2), classes=100), 100.0)


def generator_step(at: Place, macro: Macro, net: FixedSupernet, batch: tuple, target: float) -> Step:
    layers, generator, table = len(macro.layers), Generator().to(at.device), macs_table(macro)
    adam, prior, (x, y) = build_optimizer(generator), flat_prior(at, len(macro.layers)), batch

    def step() -> torch.Tensor:
        p = uniform_p(layers, generator(normalise(target, 0.8 * target, 1.2 * target), prior)[0])
        loss = label_smoothing_cross_entropy(net.soft(x, p), y) + hardware_loss(table.cost(p), target)
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss.detach()

    return step


def w3_scratch_step(at: Place) -> Step:
    """W3: training step, kernels of SGNAS-C, CIFAR-100 macro, batch 32. Original: forward, loss, backward, SGD."""
    macro, batch = cifar(at), at.batch(at.size(32, 2), classes=100)
    net = Network(macro, PUBLISHED["SGNAS-C"][: len(macro.layers)], 100).to(at.device)
    sgd = torch.optim.SGD(net.parameters(), 0.064, momentum=0.9, weight_decay=4e-4, foreach=True)
    return lambda: train_step(net, batch, sgd, label_smoothing_cross_entropy)


def w4_evaluation(at: Place) -> Step:
    """W4: evaluation, SGNAS-A with squeeze-and-excitation, batch 4 of 224. Original: eval mode, no gradients."""
    net = fold(Network(MACROS["imagenet"], PUBLISHED["SGNAS-A"], 1000, True, "hswish").to(at.device))
    x = at.pictures(*at.size((4, 224), (2, 64)))
    return torch.no_grad()(lambda: net(x))


def w5_build(at: Place) -> Step:
    """W5: SGNAS-A built from a target. Original: tables, an unused supernet, generator, probe forwards."""
    macro, prior = MACROS["imagenet"], flat_prior(Place(), 19)

    def build() -> torch.nn.Module:
        with torch.no_grad():
            arg_max_ops(Generator()(normalise(365.0, 270, 450), prior))
        macs_table(macro)
        return Network(macro, PUBLISHED["SGNAS-A"], 1000, True, "hswish")

    return build


WORKLOADS = {
    "w1_supernet_step": Workload(w1_supernet_step, 16),
    "w2_generator_step": Workload(w2_generator_step, 16),
    "w3_scratch_step": Workload(w3_scratch_step, 32),
    "w4_evaluation": Workload(w4_evaluation, 4),
    "w5_build": Workload(w5_build, 1, gpu=False),
}
