"""Search step with a full board, without one, meta update, train step, evaluation.

Plain runs (``--benchmark-disable``) execute each once at a reduced size; ``--benchmark-enable`` runs the sizes of the
paper's README.
"""

import numpy as np
import pytest
import torch

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
from tests.cream.tools import iterate

LRS = [0.01, 0.01, 1e-4, 1e-4]


def pictures(count, size):
    return torch.randn(count, 3, size, size).contiguous(memory_format=torch.channels_last)


@pytest.fixture
def workload(request):
    """Supernet of the full space, ten board entries, batch 16 at 96; a small window and batch when only checked."""
    full = request.config.getoption("benchmark_disable") is False or request.config.getoption("benchmark_enable", False)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    window = supernet_window(0, 600 if full else 122)
    size, classes, batch = (96, 1000, 16) if full else (32, 10, 8)
    net = Supernet(window.built, classes).train()
    optimizer = PathSGD(parameter_groups(net, 1e-4))
    rng, board = np.random.RandomState(0), Board(10 if full else 2)
    for score in range(board.size):
        soft = torch.softmax(torch.randn(4, classes), 1)
        board.add(Entry(float(score + 200), 400.0, sample_path(rng, window.sampled), [pictures(4, size)], [soft]))
    data = (pictures(batch, size), torch.randint(0, classes, (batch,)))
    return net, optimizer, board, FlopsTable(window.built), rng, window, data, full


@pytest.mark.parametrize("with_board", [True, False])
def test_search_step(benchmark, workload, with_board):
    net, optimizer, board, table, rng, window, data, _ = workload
    board = board if with_board else Board(10)

    def step():
        path = sample_path(rng, window.sampled)
        return iterate(net, optimizer, board, path, table.flops(path), [data], LRS, board_is_open=with_board)

    assert benchmark(step).outcome.loss > 0


def test_meta_update(benchmark, workload):
    net, optimizer, board, _, rng, window, data, _ = workload

    def step():
        path = sample_path(rng, window.sampled)
        optimizer.lrs = LRS
        return meta_update(Student(net, optimizer, path, [data]), board, MetaRules())

    assert benchmark(step).soft_loss > 0


def test_train_step(benchmark, workload):
    full = workload[-1]
    net = derive(PUBLISHED["287" if full else "14"], dropout=0.2).to(memory_format=torch.channels_last).train()
    size, batch = (224, 8) if full else (32, 4)
    optimizer = RMSpropTF(without_decay(net, 1e-5), 1e-3, 0.9, 1e-3, momentum=0.9)
    ema, counter = EMA(net, 0.9999), TopK()
    x, y = pictures(batch, size), torch.randint(0, 1000, (batch,))

    def step():
        optimizer.zero_grad(set_to_none=True)
        logits = net(x)
        loss = label_smoothing_cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        ema.update(net)
        counter.add(logits, y, loss)
        return float(loss.detach())

    assert benchmark(step) > 0


def test_evaluation(benchmark, workload):
    full = workload[-1]
    net = folded(derive(PUBLISHED["287" if full else "14"])).to(memory_format=torch.channels_last)
    x, y = pictures(16 if full else 4, 224 if full else 64), torch.randint(0, 1000, (16 if full else 4,))
    counter = TopK()

    @torch.inference_mode()
    def step():
        logits = net(x)
        counter.add(logits, y, torch.nn.functional.cross_entropy(logits, y))
        return counter

    assert benchmark(step).read()[3] > 0
