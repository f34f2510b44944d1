"""What several processes send each other in a step: a few messages, and only what the step has changed."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy

from common.run import distributed
from common.train.loop import gradients


class Sent:
    """A message that has arrived."""

    def wait(self) -> None: ...


@pytest.fixture
def messages(monkeypatch):
    """Lengths of the messages of one of two processes, of which the other holds the same."""
    lengths: list[int] = []

    def all_reduce(tensor, op, async_op=False):
        lengths.append(tensor.numel())
        if op == dist.ReduceOp.SUM:
            tensor.mul_(2)
        return Sent()

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    return lengths


class Paths(nn.Module):
    """Twenty paths, of which a forward takes one."""

    def __init__(self) -> None:
        super().__init__()
        self.paths = nn.ModuleList(nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)) for _ in range(20))
        self.taken = 0

    def forward(self, x):
        return self.paths[self.taken](x)


def data():
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 3


def step(model: Paths, taken: int) -> None:
    model.taken = taken
    for p in model.parameters():
        if p.grad is not None:
            p.grad.zero_()
    gradients(model, [data()], lambda x, y: cross_entropy(model(x), y))


def test_a_step_sends_the_gradients_of_its_path_in_one_message(messages, monkeypatch):
    torch.manual_seed(0)
    model = Paths()
    step(model, 4)
    first, messages[:] = list(messages), []
    step(model, 7)  # the gradients of path 4 are zeros now, and stay at home
    path = 6 * 3 + 3 + 3 + 3
    assert path + 1 in messages and max(messages) <= max(path + 1, 2 * 20 * 3 + 1, 80)
    assert len(messages) == len(first) == 5  # the loss, means, counters, which gradients there are, these
    assert [p.grad is not None for p in model.parameters()].count(True) == 8
    assert not model.paths[4][0].weight.grad.any()
    monkeypatch.delenv("WORLD_SIZE")
    torch.manual_seed(0)
    alone = Paths()
    for taken in (4, 7):
        step(alone, taken)
    for (name, ours), theirs in zip(model.named_parameters(), alone.parameters()):
        assert (ours.grad is None) == (theirs.grad is None), name
        assert ours.grad is None or torch.equal(ours.grad, theirs.grad), name
    for (name, ours), theirs in zip(model.named_buffers(), alone.buffers()):
        assert torch.equal(ours, theirs), name


def test_gradients_that_are_there_are_added_to(messages):
    model = Paths()
    step(model, 2)
    once = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    gradients(model, [data()], lambda x, y: cross_entropy(model(x), y))
    for p, before in zip(model.parameters(), once):
        assert (p.grad is None) == (before is None)
        if before is not None:
            torch.testing.assert_close(p.grad, 2 * before)


def test_many_tensors_travel_in_few_buckets(messages, monkeypatch):
    monkeypatch.setattr(distributed, "BUCKET_BYTES", 400)
    tensors = [torch.full((10,), float(k)) for k in range(95)]
    tensors += [torch.ones(3, dtype=torch.float64), torch.ones(2, dtype=torch.bfloat16), torch.tensor(5.0)]
    distributed.all_reduce_mean(tensors, weight=3)
    assert len(messages) == 12 and sum(messages) == 950 + 3 + 2 + 1 + 12
    assert all(torch.equal(t, torch.full((10,), float(k))) for k, t in enumerate(tensors[:95]))
    assert tensors[-1] == 5 and torch.equal(tensors[-2], torch.ones(2, dtype=torch.bfloat16))
