"""Fast forms against plain ones."""

from __future__ import annotations

import copy
import csv
from types import MethodType

import pytest
import torch

from papers.evnas import search as module
from papers.evnas.method.evolution import Draws
from papers.evnas.method.population import DARTS, mixtures
from papers.evnas.search import measured_at, search, supernet_of
from tests.evnas.small import DARTS_SEARCH, NB201_SEARCH, change, options


def test_fitness_in_darts_is_rounded_as_in_the_plain_layout():
    """Batch statistics of a large batch, against float64: no coarser than PyTorch's usual layout (on one CPU, fp32)."""
    torch.manual_seed(0)
    model = supernet_of(DARTS_SEARCH, 10)
    usual = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    usual._run = MethodType(run_in_the_usual_layout, usual)
    mixture = mixtures(DARTS, Draws.stream(DARTS, 0, "population").population(1), True, 1.0)[0]
    x = torch.randn(256, 3, 16, 16)
    with torch.no_grad():
        exact = copy.deepcopy(model).double().train()(x.double(), mixture)
        ours, theirs = (float((net.train()(x, mixture) - exact).abs().max()) for net in (model, usual))
    assert ours < 2 * theirs, (ours, theirs)


def run_in_the_usual_layout(self, x, step):
    before = last = self.stem(x)
    for cell in self.cells:
        before, last = last, step(cell, before, last)
    return self.classifier(self.global_pooling(last).flatten(1))


def test_equal_individuals_are_measured_once(tmp_path, monkeypatch):
    """The files of the search that measures each individual, with fewer passes over the fitness images."""
    settings = change(NB201_SEARCH, generations=4, population=6, tournament=5, mutation_rate=0.05)
    passes, measure = [], module.measure
    monkeypatch.setattr(module, "measure", lambda *args: passes.append(1) or measure(*args))
    search(settings, options(tmp_path / "once"))
    once = len(passes)
    monkeypatch.setattr(module, "measured_at", lambda settings, individuals: list(range(len(individuals))))
    search(settings, options(tmp_path / "each"))
    assert once < len(passes) - once == 4 * 6 * 2
    for name in ("result.json", "history.csv", "populations.npz", "supernet.safetensors"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "each" / name).read_bytes(), name
    ours, theirs = (list(csv.DictReader((tmp_path / n / "individuals.csv").open())) for n in ("once", "each"))
    for one, other in zip(ours, theirs, strict=True):  # each pass adds the losses of its images in an order of its own
        assert float(one.pop("loss")) == pytest.approx(float(other.pop("loss")), rel=1e-6)
        assert one == other


@pytest.mark.parametrize("why", [{"fitness_bn": "batch"}, {"fitness_augment": True}, {"track_running_stats": False}])
def test_passes_that_differ_are_all_made(why):
    same = [torch.ones(6, 5)] * 3
    assert measured_at(NB201_SEARCH, same) == [0, 0, 0]
    assert measured_at(change(NB201_SEARCH, **why), same) == [0, 1, 2]
    assert measured_at(DARTS_SEARCH, [([1.0], [2.0])] * 2) == [0, 1]
    assert (
        measured_at(change(DARTS_SEARCH, fitness_bn="running", fitness_augment=False), [([1.0], [2.0])] * 2) == [0] * 2
    )
