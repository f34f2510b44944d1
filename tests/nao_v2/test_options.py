"""The switches of search and training: each changes what it names."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from common.cli.errors import UserError
from common.cli.verbs import RunOptions
from common.data.sets import Images
from common.train.loop import Metrics
from common.weights.read import read_metadata
from papers.nao_v2 import train as train_module
from papers.nao_v2.data import sets as datasets
from papers.nao_v2.method import pool
from papers.nao_v2.method.search_state import SearchState
from papers.nao_v2.method.supernet_training import build_optimizer, learning_rate, supernet_step
from papers.nao_v2.network.architectures import load, parse, swapped, to_tokens
from papers.nao_v2.network.operations import DropPath
from papers.nao_v2.network.supernet import Supernet, identity_operations
from papers.nao_v2.scratch import Recipe
from papers.nao_v2.settings import RandomSearch, Search, Train
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
    assert count_of(RandomSearch()) == 25
    assert count_of(replace(RandomSearch(), search_epochs=12, search_final=3, epochs=2)) == 9
    assert count_of(replace(RandomSearch(), architectures=7)) == 7


def test_canonical_counts_swapped_operands_once():
    architecture = load("NAONet_V2")
    tokens = to_tokens(architecture)
    twin = swapped(tokens, 0, 0)
    assert twin != tokens
    assert pool.select_new([twin], {tuple(tokens)}, [], 5, False) == [twin]
    assert pool.select_new([twin], {tuple(tokens)}, [], 5, True) == []


def images(count: int = 6):
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


@pytest.mark.parametrize(
    ("epochs", "batch", "train", "ramp"), [(50, 64, 45_000, 35_200), (50, 64, 0, 35_200), (3, 100, 1_010, 33)]
)
def test_the_ramp_of_stand_alone_trainings_follows_the_supernets(epochs, batch, train, ramp):
    """Epochs x steps of one supernet training; ten epochs of the published final trainings use the first fifth."""
    labels = torch.arange(50_000) % 10
    pixels = torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(50_000, -1, -1, -1)
    whole = Images(pixels, labels, tuple("0123456789"), "cifar10", True, {})
    c = Search(epochs=epochs, batch_size=batch, train_images=train, final_epochs=1)
    s = SearchState(c, SimpleNamespace(seed=0, precision="fp32"), None, torch.device("cpu"))
    s.train, s.valid = datasets.split(s.rng, whole, c.train_images, c.valid_images, 0)
    assert s.final_recipe.drop_path_steps == s.supernet_training_steps == ramp
    assert s.final_recipe.drop_path_keep == 0.8
    s.c = replace(c, final_drop_path_steps=7)
    assert s.final_recipe.drop_path_steps == 7
    assert supernet_epochs(RandomSearch()) == 50
    assert supernet_epochs(RandomSearch(search_epochs=12, search_iterations=2)) == 6


def test_a_ramp_that_would_drop_everything_is_refused():
    Recipe(epochs=10, drop_path_keep=0.8, drop_path_steps=35_200).check_ramp(704)
    with pytest.raises(UserError, match="ramp ends after 100 steps, but the training takes 500"):
        Recipe(epochs=10, drop_path_keep=0.8, drop_path_steps=100).check_ramp(50)


def test_exponential_steps_every_few_epochs():
    recipe = Recipe(schedule="exponential", lr=0.1, decay_rate=0.5, decay_epochs=3)
    assert [recipe.rate(e) for e in (0, 2, 3, 8)] == pytest.approx([0.1, 0.1, 0.05, 0.025])


def test_shares_of_a_supernet_step():
    """Gradient: the mean over all images. Running statistics: the mean, by images, of what each share makes of them."""
    x, y, sizes = torch.randn(5, 3, 32, 32), torch.tensor([0, 1, 2, 3, 4]), [3, 2]

    def fresh() -> Supernet:
        return Supernet(channels=2, layers=1, generator=torch.Generator().manual_seed(0)).train()

    network, single = fresh(), [fresh(), fresh()]
    single[1].load_state_dict(network.state_dict())
    single[0].load_state_dict(network.state_dict())
    supernet_step(network, FIRST, x, y, build_optimizer(network, 0.9, 0.0), 0.0, "none", shares=sizes)  # rate 0
    for part, (px, py) in zip(single, zip(x.split(sizes), y.split(sizes))):
        torch.nn.functional.cross_entropy(part(px, FIRST), py).backward()
    for (name, p), a, b in zip(network.named_parameters(), *(s.parameters() for s in single)):
        if p.grad is not None:
            assert torch.allclose(p.grad, 0.6 * a.grad + 0.4 * b.grad, atol=1e-5), name
    for (name, p), a, b in zip(network.named_buffers(), *(s.buffers() for s in single)):
        if "running_" in name:
            assert torch.allclose(p, 0.6 * a + 0.4 * b, atol=1e-6), name


def test_the_last_weights_are_kept_beside_the_best(tmp_path, monkeypatch):
    """Two epochs of which the first tests better: both files hold what was tested, and say of which epoch."""
    errors = iter((10.0, 20.0))
    monkeypatch.setattr(train_module, "evaluate", lambda *a: Metrics(1.0, next(errors), 5.0, 7))
    options = RunOptions(out=tmp_path, device="cpu", paper="nao_v2", section="train")
    c = Train(dataset="digits", layers=1, channels=2, epochs=2, train_images=64, batch_size=64, auxiliary=False)
    metrics = train_module.train(c, options)["metrics"]
    assert (metrics["top1_error_percent"], metrics["last_top1_error_percent"], metrics["best_epoch"]) == (10.0, 20.0, 0)
    best, last = tmp_path / "weights.safetensors", tmp_path / "weights_last.safetensors"
    assert (read_metadata(best)["epoch"], read_metadata(last)["epoch"]) == (0, 1)
    key = "stem.1.num_batches_tracked"
    assert (int(load_file(best)[key]), int(load_file(last)[key])) == (1, 2)
