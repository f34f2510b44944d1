"""Workloads A, E and H of the original's speed table, at its sizes."""

from __future__ import annotations

import numpy as np
import torch

from papers.nsas.architectures import RECURRENT
from papers.nsas.networks import build_nb201_supernet, build_supernet
from papers.nsas.recurrent import Cell, Dropouts, LanguageModel, nll
from papers.nsas.sampling import sample_free
from papers.nsas.search_nb201 import live_loss, term_weights
from papers.nsas.search_random import logits_function, released_loss


def test_a_search_step(benchmark):
    """RandomNAS-NSAS, raw table, C=8 L=5, batch 4, M=8."""
    rng = np.random.RandomState(0)
    archs = [(sample_free(rng), sample_free(rng)) for _ in range(9)]
    model = build_supernet(8, 10, 5).train()
    x, y = torch.randn(4, 3, 32, 32), torch.randint(0, 10, (4,))
    step = released_loss(0.5, logits_function("raw", statistics=True), "raw")
    assert torch.isfinite(benchmark(step, model, x, y, archs[0], archs[1:]))


def test_e_recurrent_step(benchmark):
    """V=10,000, H=200, batch 16, 35 steps."""
    cell = RECURRENT["Random_NSAS"]
    model = LanguageModel(10_000, 200, Cell(200, cell.recurrent, cell.concat), Dropouts()).train()
    words, generator = torch.randint(0, 10_000, (36, 16)), torch.Generator()

    def step():
        logits, *_ = model(words[:-1], model.start(16), model.masks(16, generator))
        loss = nll(logits, words[1:])
        loss.backward()
        return loss

    assert torch.isfinite(benchmark(step))


def test_h_nb201_step(benchmark):
    """Three forwards, 0.2/0.4/0.4, C=16 N=2, batch 32."""
    model = build_nb201_supernet(16, 2, 10).train()
    x, y = torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))
    codes = [(3, 3, 1, 3, 3, 2), (3, 1, 0, 4, 4, 0), (0, 2, 4, 4, 1, 3)]
    assert torch.isfinite(benchmark(live_loss, model, x, y, codes, term_weights("nsas", 2)))
