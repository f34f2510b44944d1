"""The switches of the search: each changes what it names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from common.data.sets import blank
from papers.nao_v2.data.sets import split, train_batches
from papers.nao_v2.method import balanced, pool
from papers.nao_v2.method.supernet_training import UsedWeights, build_optimizer, learning_rate, supernet_step
from papers.nao_v2.networks.architectures import Shape, load, parse, swapped, to_tokens
from papers.nao_v2.networks.operations import DropPath
from papers.nao_v2.networks.supernet import Supernet, identity_operations
from papers.nao_v2.search import final_recipe
from papers.nao_v2.settings import RandomSearch, Search
from papers.nao_v2.studies.random_search import count_of, supernet_epochs

FIRST = parse("0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0")
SECOND = parse("1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1")


@pytest.mark.parametrize("rule", ["zeros", "none"])
def test_gradients_of_unused_weights(rule):
    """After one step along each of two paths, weights that only the first uses move on (zeros) or stand still."""
    network = Supernet(channels=2, layers=1, generator=torch.Generator().manual_seed(0)).train()
    optimizer = build_optimizer(network, 0.9, 3e-4)
    optimizer.param_groups[0]["lr"] = 0.1
    x, y = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    supernet_step(network, FIRST, (x, y), optimizer, 5.0, rule)
    only_first = network.cells[0].ops[0].x_op[0].W1_pointwise[0]
    never = network.cells[0].ops[0].x_op[0].W1_pointwise[1]
    before, untouched = only_first.detach().clone(), never.detach().clone()
    supernet_step(network, SECOND, (x, y), optimizer, 5.0, rule)
    assert torch.equal(only_first, before) == (rule == "none")
    assert torch.equal(never, untouched)


def test_a_resumed_run_knows_which_weights_were_used():
    """Without momentum nothing but the gradients of zeros says so; weight decay then goes on moving these weights."""
    x, y = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    runs = []
    for resumed in (False, True):
        torch.manual_seed(0)  # the classifier's bias
        network = Supernet(channels=2, layers=1, generator=torch.Generator().manual_seed(0)).train()
        optimizer = build_optimizer(network, 0.0, 0.1)
        optimizer.param_groups[0]["lr"] = 0.1
        supernet_step(network, FIRST, (x, y), optimizer, 5.0, "zeros")
        if resumed:
            used = UsedWeights(network).state_dict()
            network.zero_grad(set_to_none=True)
            UsedWeights(network).load_state_dict(used)
        supernet_step(network, SECOND, (x, y), optimizer, 5.0, "zeros")
        runs.append(network.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


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


def test_canonical_counts_swapped_operands_once():
    architecture = load("NAONet_V2")
    tokens = to_tokens(architecture)
    twin = swapped(tokens, 0, 0)
    assert twin != tokens
    assert pool.select_new([twin], {tuple(tokens)}, [], 5, False) == [twin]
    assert pool.select_new([twin], {tuple(tokens)}, [], 5, True) == []


def test_pool_round_trip_keeps_the_sampling_weights(tmp_path):
    candidates = pool.random_pool(np.random.RandomState(3), 30, 5)
    pool.write_pool(tmp_path / "p", candidates)
    again = pool.read_pool(tmp_path / "p")
    assert again == candidates
    p, q = (balanced.probabilities(balanced.sizes(x, Shape(channels=20, layers=3))) for x in (candidates, again))
    assert np.array_equal(p, q) and p.max() > 1.5 * p.min()  # not silently uniform


@pytest.mark.parametrize(
    ("epochs", "batch", "train", "ramp"), [(50, 64, 45_000, 35_200), (50, 64, 0, 35_200), (3, 100, 1_010, 33)]
)
def test_the_ramp_of_stand_alone_trainings_follows_the_supernets(epochs, batch, train, ramp):
    """Epochs x steps of one supernet training; ten epochs of the published final trainings use the first fifth."""
    c = Search(epochs=epochs, batch_size=batch, train_images=train, final_epochs=1)
    images, _ = split(np.random.RandomState(0), blank("cifar10", 50_000), c.train_images, c.valid_images, 0)
    steps = len(train_batches(images, c.batch_size, 0, "supernet"))
    recipe = final_recipe(c, steps, 1)
    assert (recipe.drop_path_steps, recipe.drop_path_keep) == (ramp, 0.8) and epochs * steps == ramp
    assert final_recipe(replace(c, final_drop_path_steps=7), steps, 1).drop_path_steps == 7
    assert supernet_epochs(RandomSearch()) == 50
    assert supernet_epochs(RandomSearch(search_epochs=12, search_iterations=2)) == 6


def test_random_search_has_the_budget_of_a_search():
    """Supernet epochs and final trainings of the published search: 200 / 10 + 5 architectures of ten epochs."""
    assert count_of(RandomSearch()) == 25
    assert count_of(replace(RandomSearch(), search_epochs=12, search_final=3, epochs=2)) == 9
    assert count_of(replace(RandomSearch(), architectures=7)) == 7
