"""What several processes send each other in a step: a few messages, and only what the step has changed."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy

from common.run import distributed
from common.train import sending
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


def test_gradients_travel_while_the_backward_pass_goes_on(messages, monkeypatch):
    monkeypatch.setattr(sending, "BUCKET_BYTES", 4 * 6 * 6)
    layers = nn.Sequential(*(nn.Linear(6, 6, bias=False) for _ in range(3)))
    underway: list[int] = []
    layers[0].weight.register_hook(lambda gradient: underway.append(len(messages)))
    gradients(layers, data(), lambda x, y: cross_entropy(layers(x), y))
    assert underway == [3]  # which gradients there will be, and the last two layers'
    assert messages == [3, 37, 37, 37, 2, 1]  # … the first layer's, the loss, no statistics
    together = [p.grad.clone() for p in layers.parameters()]
    layers.zero_grad()
    cross_entropy(layers(data()[0]), data()[1]).backward()
    distributed.reduce_gradients(layers.parameters(), 8)
    assert all(torch.equal(p.grad, sent) for p, sent in zip(layers.parameters(), together))


BOTH_FORMS = """
import torch
from torch import nn
from common.run import distributed
from common.train import sending
from common.train.sending import Sending
distributed.setup()
rank, sending.BUCKET_BYTES = distributed.rank(), 200
torch.manual_seed(0)
paths = nn.ModuleList(nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 2)) for _ in range(3))
for images, taken in ((4 - 2 * rank, 0), (4 * rank, 1), (3, rank)):
    x, found = torch.randn(4, 6, generator=torch.Generator().manual_seed(rank))[:images], []
    for overlapped in (True, False):
        paths.zero_grad()
        parameters = list(paths.parameters())
        one = Sending(parameters, images)
        if images:
            loss = paths[taken](x).square().mean()
            if overlapped:
                one.expect(loss)
            loss.backward()
        if overlapped:
            one.rest()
            one.finish()
        else:
            distributed.reduce_gradients(parameters, images)
        found.append([None if p.grad is None else p.grad.clone() for p in parameters])
    for ours, theirs in zip(*found):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)
distributed.close()
"""


def test_both_ways_to_send_give_the_same_gradients(two_processes):
    """Shares of different sizes, an empty one, another path in each process."""
    two_processes(["-c", BOTH_FORMS], PYTHONPATH=".")
