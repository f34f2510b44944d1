"""NAO-V2: supernet step, scoring, training, test, the controller's step and generation, size of an architecture.

How the original is timed on the same machine: its functions are called on the CPU with the same four architectures in
turn (the published one and three random ones) and noise as images, one thread, NCHW tensors, ``time.process_time``
around the call, the median after four calls to warm up; peak memory is that of the process, imports included.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F

from common.train.loop import auxiliary_loss
from common.train.loop import train_step as one_train_step
from papers.nao_v2.method.controller import Controller
from papers.nao_v2.method.controller_training import controller_step as one_controller_step
from papers.nao_v2.method.supernet_training import build_optimizer, score, supernet_step
from papers.nao_v2.networks.architectures import Shape, load, parse, to_tokens
from papers.nao_v2.networks.derived import Network
from papers.nao_v2.networks.operations import DropPath
from papers.nao_v2.networks.size import _cell, size_of
from papers.nao_v2.networks.supernet import Supernet
from tests.benchmarks.workloads.place import Place, Step, Workload

PATHS = [
    load("NAONet_V2"),
    parse("0 2 1 1 0 4 0 3 0 4 3 2 2 0 3 1 0 0 5 3 0 2 1 1 1 1 2 4 2 0 0 3 0 4 1 2 2 0 0 3"),
    parse("1 4 0 0 0 2 0 3 0 2 0 1 3 0 0 2 5 1 5 1 1 2 0 4 2 0 2 0 1 1 2 1 0 2 2 3 0 1 1 3"),
    parse("1 4 0 0 0 3 2 4 2 0 3 4 1 2 0 4 3 0 1 4 1 3 1 0 1 4 0 0 3 3 3 2 1 1 3 2 1 3 3 3"),
]


def supernet(at: Place) -> Supernet:
    return (Supernet() if at.full else Supernet(channels=4, layers=1)).to(at.device)


def search_step(at: Place) -> Step:
    """Supernet step, 11 cells, 20 channels, batch 16, drop path 0.9 half way.

    Original: gradients zeroed but kept, forward, backward, clip, SGD over all 7,349 tensors.
    """
    net = supernet(at).train()
    optimizer = build_optimizer(net, 0.9, 3e-4)
    optimizer.param_groups[0]["lr"] = 0.025
    net.drop_path = DropPath(0.9, 35200, 11)
    net.drop_path.step = 17600
    batch, turn = at.batch(at.size(16, 2)), itertools.cycle(PATHS)
    if at.full:  # all parameters have gradients, as after some steps of a search
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
    return lambda: supernet_step(net, next(turn), batch, optimizer, 5.0, "zeros")


def candidate_eval(at: Place) -> Step:
    """Scoring one candidate on one batch of 100. Original: forward with batch statistics in the path, no gradient."""
    net, batches, turn = supernet(at), [at.batch(at.size(100, 4))], itertools.cycle(PATHS)
    return lambda: score(net, next(turn), batches)


def derived(at: Place, auxiliary: bool) -> Network:
    shape = at.size(Shape(channels=16, layers=2), Shape(channels=4, layers=1))
    return Network(PATHS[0], shape, auxiliary=auxiliary, dropout_keep=0.6).to(at.device)


def train_step(at: Place) -> Step:
    """Training step of NAONet-V2, 8 cells, 16 channels, auxiliary head, batch 32. Original: the same to SGD."""
    network = derived(at, True).train()
    network.drop_path = DropPath(0.8, 234600, 8)
    network.drop_path.step = 117300
    optimizer = torch.optim.SGD(network.parameters(), 0.025, momentum=0.9, weight_decay=5e-4, foreach=True)
    batch, loss_of = at.batch(at.size(32, 2)), auxiliary_loss(F.cross_entropy, 0.4)
    return lambda: one_train_step(network, batch, optimizer, loss_of, clip_norm=5.0)


def eval_pass(at: Place) -> Step:
    """Test pass of the same network, one batch of 100. Original: eval mode, no gradient."""
    network, x = derived(at, False).eval(), at.pictures(at.size(100, 4))

    @torch.inference_mode()
    def step() -> torch.Tensor:
        return network(x)[0]

    return step


def sequences(at: Place, count: int = 100) -> torch.Tensor:
    return torch.tensor([to_tokens(PATHS[k % 4]) for k in range(count)], device=at.device)


def controller_step(at: Place) -> Step:
    """Controller step, 100 sequences of 40 tokens. Original: forward with teacher forcing, both losses, clip, Adam."""
    controller, tokens, target = Controller().to(at.device), sequences(at), torch.rand(100, device=at.device)
    optimizer = torch.optim.Adam(controller.parameters(), lr=0.001, foreach=True)
    return lambda: one_controller_step(controller, tokens, target, optimizer, 5.0, 0.8)[0]


def controller_generate(at: Place) -> Step:
    """Generation round, 100 sequences: a gradient step in latent space and free decoding. Original: one step size."""
    controller, tokens = Controller().to(at.device).eval(), sequences(at)
    return lambda: controller.infer(tokens, 3.0)


def parameter_count_of_one_architecture(at: Place) -> Step:
    """Size of an architecture seen for the first time. Original: builds the network to count its parameters."""

    def count() -> int:
        _cell.cache_clear()
        return size_of(PATHS[1], Shape(channels=20, layers=3))

    return count


WORKLOADS = {
    "search_step": Workload(search_step, 16),
    "candidate_eval": Workload(candidate_eval, 100),
    "train_step": Workload(train_step, 32),
    "eval_pass": Workload(eval_pass, 100),
    "controller_step": Workload(controller_step, 100, counted=False),
    "controller_generate": Workload(controller_generate, 100, counted=False),
    "parameter_count_of_one_architecture": Workload(parameter_count_of_one_architecture, 1, gpu=False),
}
