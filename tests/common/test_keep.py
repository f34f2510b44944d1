"""What a run keeps, and loops that know where they stand: killed anywhere, it goes on as if it had not been."""

import copy
import random
import types

import numpy as np
import pytest
import torch

from common.run.keep import Keeping, Values


class Killed(Exception):
    """The process ends here."""


class Toy(Keeping):
    """A run whose disk is a dict; it saves now and then, and dies at its ``die_at``-th step."""

    def __init__(self, disk, die_at, chance):
        super().__init__()
        self.options, self.writes = types.SimpleNamespace(seed=0), False
        self.disk, self.die_at, self.chance, self.done = disk, die_at, chance, 0

    def read_state(self):
        return copy.deepcopy(self.disk.get("state"))

    def write_state(self, state):
        self.disk.update(state=copy.deepcopy(state), rng=torch.get_rng_state())

    def restore_generators(self):
        torch.set_rng_state(self.disk["rng"])

    def due(self):
        return self.chance.random() < 0.4

    def work(self):
        self.done += 1
        if self.done == self.die_at:
            raise Killed


class Stream:
    """Four batches an epoch, each a function of its place."""

    def __len__(self):
        return 4

    def epoch(self, epoch, start=0):
        for number in range(start, 4):
            generator = torch.Generator().manual_seed(100 * epoch + number)
            yield torch.randn(3, generator=generator), torch.zeros(3)


def search(run):
    """Phases in an epoch, loops in loops, things made inside a loop, and every kind of chance."""
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    now, scores, history = Values(loss=0.0, sum=0.0), [], []
    legacy, own = np.random.RandomState(3), torch.Generator().manual_seed(4)
    run.keeps(net=net, optimizer=optimizer, now=now, scores=scores, history=history, legacy=legacy, own=own)
    for epoch in run.epochs(3):
        for _, (x, _) in run.steps(Stream(), epoch, "train"):
            optimizer.zero_grad()
            loss = (net(x + torch.rand(3)) ** 2).sum()  # the global generator
            loss.backward()
            optimizer.step()
            now.loss += loss.item()
            run.work()
        for k, _ in run.each("abc", "fitness"):
            for _, (x, _) in run.steps(Stream(), k, "images"):
                now.sum += net(x).sum().item() + legacy.rand() + torch.rand(1, generator=own).item()
                run.work()
            scores.append(now.sum)
            now.sum = 0.0
        history.append((epoch, now.loss, tuple(scores)))
        now.loss = 0.0
        scores.clear()
    for _, name in run.each(2, "final trainings"):
        weight = torch.nn.Linear(2, 1)
        run.keeps(weight=weight)
        for epoch in run.epochs(2):
            for _, (x, _) in run.steps(Stream(), epoch):
                weight.weight.data += x[:2] * torch.rand(1)
                run.work()
        history.append((name, weight.weight.sum().item()))
    return history, net.weight.tolist(), torch.rand(1).item()


def test_killed_anywhere_the_result_is_that_of_an_uninterrupted_run():
    expected = search(Toy({}, -1, random.Random(0)))
    sessions = 0
    for trial in range(60):
        chance, disk, found = random.Random(trial), {}, None
        while found is None:
            sessions += 1
            try:
                found = search(Toy(disk, chance.randint(1, 60), chance))
            except Killed:
                continue
        assert found == expected, trial
    assert sessions > 120  # it was really interrupted


def test_a_finished_loop_is_passed_over():
    disk, seen = {}, []

    def walk(run, stop):
        run.keeps(nothing=[])
        for _ in run.epochs(1):
            for k, _ in run.each(2, "first"):
                seen.append(("first", k))
            if run.once("between"):
                seen.append("between")
            for k, _ in run.each(3, "second"):
                seen.append(("second", k))
                if stop == k:
                    raise Killed

    always = types.SimpleNamespace(random=lambda: 0.0)
    with pytest.raises(Killed):
        walk(Toy(disk, -1, always), 1)
    assert seen == [("first", 0), ("first", 1), "between", ("second", 0), ("second", 1)]
    seen.clear()
    walk(Toy(disk, -1, always), None)
    assert seen == [("second", 1), ("second", 2)]


def test_what_cannot_be_kept_is_refused_by_name():
    with pytest.raises(TypeError, match="archive is a int without state_dict"):
        Toy({}, -1, random.Random(0)).keeps(archive=3)


def test_saved_values_have_the_names_they_were_made_with():
    with pytest.raises(KeyError, match="saved values"):
        Values(loss=0.0).load_state_dict({"error": 1.0})


def test_what_is_only_shown_is_not_kept():
    disk = {}
    run = Toy(disk, 0, random.Random(0))

    class Letters(str):
        def epoch(self, number, start):
            return iter(self)

    assert list(run.shows(Letters("abc"), "test")) == ["a", "b", "c"] and disk == {}
