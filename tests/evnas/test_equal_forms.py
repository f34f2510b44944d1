"""Fast forms against plain ones."""

from __future__ import annotations

import copy
from types import MethodType

import torch

from papers.evnas.method.evolution import Draws
from papers.evnas.method.population import DARTS, mixtures
from papers.evnas.search import supernet_of
from tests.evnas.small import DARTS_SEARCH


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
