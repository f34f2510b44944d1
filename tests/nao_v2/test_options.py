"""The switches of search and training: each changes what it names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from papers.nao_v2 import datasets, pool
from papers.nao_v2.architectures import load, parse, swapped, to_tokens
from papers.nao_v2.operations import DropPath
from papers.nao_v2.random_search import count_of
from papers.nao_v2.settings import RandomSettings
from papers.nao_v2.supernet import Supernet, identity_operations
from papers.nao_v2.supernet_training import build_optimizer, learning_rate, supernet_step

FIRST = parse("0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0")
SECOND = parse("1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1")


@pytest.mark.parametrize("rule", ["zeros", "none"])
def test_gradients_of_unused_weights(rule):
    """After one step along each of two paths, weights that only the first uses move on (zeros) or stand still."""
    network = Supernet(channels=2, layers=1, generator=torch.Generator().manual_seed(0)).train()
    optimizer = build_optimizer(network, 0.9, 3e-4)
    optimizer.param_groups[0]["lr"] = 0.1
    x, y = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    supernet_step(network, FIRST, x, y, optimizer, 5.0, rule)
    only_first = network.cells[0].ops[0].x_op[0].W1_pointwise[0]
    never = network.cells[0].ops[0].x_op[0].W1_pointwise[1]
    before, untouched = only_first.detach().clone(), never.detach().clone()
    supernet_step(network, SECOND, x, y, optimizer, 5.0, rule)
    assert torch.equal(only_first, before) == (rule == "none")
    assert torch.equal(never, untouched)


def test_drop_path_rules():
    """Identity edges keep their signal at publication; every edge has drop path since March 2020."""
    x, identity = torch.ones(64, 2, 4, 4), next(iter(identity_operations("small")))
    for exempt, touched in ((identity_operations("small"), False), (frozenset(), True)):
        drop = DropPath(0.5, 10, 5, exempt)
        drop.step = 9
        torch.manual_seed(0)
        assert bool((drop(x, 4, 0, 0, identity) != x).any()) == touched
        assert bool((drop(x, 4, 0, 0, 0) != x).any())
    assert {identity_operations("small"), identity_operations("middle")} == {frozenset({4}), frozenset({0, 1})}


def test_learning_rates_of_the_three_rules():
    for rule, values in {
        "restart": (0.025, 0.025), "drift": (learning_rate("restart", 0, 1, 50, 0.025, 0.001), 0.001),
        "continue": (0.025, 0.001),
    }.items():  # fmt: skip
        assert [learning_rate(rule, i, 0, 50, 0.025, 0.001) for i in (0, 1)] == pytest.approx(values), rule


def test_random_search_has_the_budget_of_a_search():
    """Supernet epochs and final trainings of the published search: 200 / 10 + 5 architectures of ten epochs."""
    assert count_of(RandomSettings()) == 25
    assert count_of(replace(RandomSettings(), search_epochs=12, search_final=3, epochs=2)) == 9
    assert count_of(replace(RandomSettings(), architectures=7)) == 7


def test_canonical_counts_swapped_operands_once():
    architecture = load("NAONet_V2")
    tokens = to_tokens(architecture)
    twin = swapped(tokens, 0, 0)
    assert twin != tokens
    assert pool.select_new([twin], {tuple(tokens)}, [], 5, False) == [twin]
    assert pool.select_new([twin], {tuple(tokens)}, [], 5, True) == []


def images(count: int = 6):
    from common.data.sources import Images

    pixels = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (count, 3, 32, 32)).astype(np.uint8))
    return Images(pixels, torch.zeros(count, dtype=torch.int64), ("a",), "cifar10", True, {})


def first_batch(cutout: int, autoaugment: bool, epoch: int = 0) -> torch.Tensor:
    batches = datasets.train_batches(images(), "cifar10", 6, 3, torch.device("cpu"), "train", cutout, autoaugment)
    return next(iter(batches.epoch(epoch)))[0]


def test_cutout_and_autoaugment_batches():
    plain, cut = first_batch(0, False), first_batch(16, False)
    gone = (cut == 0).all(1)
    assert torch.equal(plain[:, 0][~gone], cut[:, 0][~gone])  # elsewhere the same pictures
    for mask in gone:  # one rectangle of at most 16 x 16 per picture, clipped at the border
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert 8 <= len(rows) <= 16 and 8 <= len(columns) <= 16 and int(mask.sum()) == len(rows) * len(columns)
    augmented = first_batch(16, True)
    assert torch.equal(augmented, first_batch(16, True)) and not torch.equal(augmented, first_batch(16, True, 1))
    assert not torch.equal(augmented, cut)
    assert torch.equal((augmented == 0).all(1), gone)  # AutoAugment comes between flip and cutout
    assert augmented.shape == plain.shape
