"""Cream: search step with a full board and without one, meta update, training step, evaluation.

How the original is timed on the same machine: its programs need a GPU, so the bodies of its loops are called on the
same noise with device moves and synchronisation left out, one thread, ``time.process_time`` around the call, the median
of seven after one to warm up. Its meta update runs on torch 1.5 and later only with an SGD that updates through
``.data``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from common.train.loop import train_step as one_train_step
from common.train.losses import TopK, label_smoothing_cross_entropy
from common.train.optim import EMA, RMSpropTF, without_decay
from papers.cream.method.board import Board, Entry
from papers.cream.method.meta import MetaRules, meta_update
from papers.cream.method.path_sgd import PathSGD, parameter_groups
from papers.cream.method.space import sample_path
from papers.cream.method.student import Student
from papers.cream.method.window import supernet_window
from papers.cream.networks.architectures import PUBLISHED
from papers.cream.networks.layout import FlopsTable
from papers.cream.networks.networks import Supernet, derive, folded
from tests.benchmarks.workloads.place import Place, Step, Workload
from tests.cream.tools import iterate

LRS = [0.01, 0.01, 1e-4, 1e-4]


class Searching:
    """Supernet of the full space, board entries of 4 images, batch 16 at 96; a small window and batch as a test."""

    def __init__(self, at: Place, board: int, sizes: tuple[int, int, int] = (0, 0, 0)) -> None:
        """sizes: side of a picture, classes and images, where they are not the benchmark's."""
        self.window = supernet_window(0, at.size(600, 122))
        side, classes, images = sizes if any(sizes) else at.size((96, 1000, 16), (32, 10, 8))
        self.net = Supernet(self.window.built, classes).to(at.device).train()
        self.optimizer = PathSGD(parameter_groups(self.net, 1e-4))
        self.table, self.rng, self.board = FlopsTable(self.window.built), np.random.RandomState(0), Board(max(board, 1))
        for score in range(board):
            soft = torch.softmax(torch.randn(4, classes), 1).to(at.device)
            self.board.add(Entry(score + 200.0, 400.0, self.path(), [at.pictures(4, side)], [soft]))
        self.data = [at.batch(images, side, classes)]

    def path(self) -> list[list[int]]:
        return sample_path(self.rng, self.window.sampled)

    def step(self, board_is_open: bool) -> float:
        path = self.path()
        flops = self.table.flops(path)
        done = iterate(self.net, self.optimizer, self.board, path, flops, self.data, LRS, board_is_open=board_is_open)
        return done.outcome.loss


def search_step(at: Place) -> Step:
    """Search step: full board of 10, batch 16 at 96, supernet of 0 to 600 MFLOPs.

    Original: FLOPs look-up, choice of the teacher, both forwards, loss, zero-filled reset, backward, SGD over all
    weights, top-1 and top-5.
    """
    searching = Searching(at, at.size(10, 2))
    return lambda: searching.step(True)


def search_step_no_board(at: Place) -> Step:
    """Search step before the board opens, same sizes. Original: the same loop, cross-entropy alone."""
    searching = Searching(at, 0)
    return lambda: searching.step(False)


def meta(at: Place) -> Step:
    """Meta update alone, full board of 10. Original: choice, double backward, two optimiser steps."""
    searching = Searching(at, at.size(10, 2))

    def step() -> float:
        searching.optimizer.lrs = LRS
        student = Student(searching.net, searching.optimizer, searching.path(), searching.data)
        return meta_update(student, searching.board, MetaRules()).soft_loss

    return step


def network(at: Place) -> nn.Module:
    return derive(PUBLISHED[at.size("287", "14")], dropout=0.2).to(at.device, memory_format=torch.channels_last)


def train_step(at: Place) -> Step:
    """Training step of network 287, 8 images at 224. Original: forward to EMA update, timm 0.1.20's RMSpropTF."""
    net = network(at).train()
    optimizer = RMSpropTF(without_decay(net, 1e-5), 1e-3, 0.9, 1e-3, momentum=0.9)
    ema, counter = EMA(net, 0.9999), TopK(at.device)
    batch = at.batch(*at.size((8, 224), (4, 32)), classes=1000)

    def step() -> float:
        loss = one_train_step(net, batch, optimizer, label_smoothing_cross_entropy, counter=counter)
        ema.update(net)
        return loss

    return step


def evaluation(at: Place) -> Step:
    """Evaluation of network 287, 16 images at 224. Original: no graph, cross-entropy, top-1 and top-5."""
    net, (x, y) = folded(network(at).eval()), at.batch(*at.size((16, 224), (4, 64)), classes=1000)
    counter = TopK(at.device)

    @torch.inference_mode()
    def step() -> torch.Tensor:
        logits = net(x)
        loss = cross_entropy(logits, y)
        counter.add(logits, y, loss)
        return loss

    return step


WORKLOADS = {
    "search_step": Workload(search_step, 16),
    "search_step_no_board": Workload(search_step_no_board, 16),
    "meta_update": Workload(meta, 16),
    "train_step": Workload(train_step, 8),
    "evaluation": Workload(evaluation, 16),
}
