"""Workloads A to I of the original's speed table (README, Speed), at its sizes.

    OMP_NUM_THREADS=1 python -m pytest tests/benchmarks/test_nsas.py --benchmark-enable \
        --benchmark-timer=time.process_time

Without the flag every workload runs once, as a test that its result is finite.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.spaces.darts.network import derived
from common.train.optim import zero_fill_grads
from papers.nsas.method.loss import released_loss
from papers.nsas.method.novelty import Archive
from papers.nsas.method.relaxation import gumbel, straight_through
from papers.nsas.method.sampling import sample_free
from papers.nsas.nasbench201.loss import Drawn, gdas_loss, gdas_weights, live_loss, term_weights
from papers.nsas.nasbench201.settings import SearchNb201Gdas
from papers.nsas.nasbench201.supernet import Touched, build_nb201_supernet, make_sgd, weighted_logits
from papers.nsas.networks.architectures import CNN
from papers.nsas.networks.paths import logits_function
from papers.nsas.networks.supernet import build_supernet
from papers.nsas.recurrent.architecture import RECURRENT
from papers.nsas.recurrent.chunks import text_loss
from papers.nsas.recurrent.loss import Chunk
from papers.nsas.recurrent.model import DerivedCell, Dropouts, LanguageModel, activation_penalty
from papers.nsas.recurrent.settings import TrainRecurrent
from papers.nsas.recurrent.supernet import RECURRENT_EDGES, SupernetCell
from papers.nsas.recurrent.train import train_step

WORDS, WIDTH, BATCH, BPTT = 10_000, 200, 16, 35


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Every test here."""


def images(batch: int, classes: int = 10):
    return torch.randn(batch, 3, 32, 32), torch.randint(0, classes, (batch,))


@pytest.mark.parametrize("constraints, statistics", [(8, True), (8, False), (0, True)], ids=["A", "A-path", "A0"])
def test_a_search_step(benchmark, constraints, statistics):
    """RandomNAS-NSAS, raw table, C=8 L=5, batch 4, full archive of M=8: sampling, archive, losses, clip, SGD.

    ``A-path`` leaves the statistics of unsampled operations alone (deviation 14), ``A0`` has no constraints.
    """
    rng, (x, y) = np.random.RandomState(0), images(4)
    archives = [Archive(constraints) for _ in range(2)]
    for archive in archives:
        archive.recent.append(sample_free(rng))
        for _ in range(constraints):
            archive.update(sample_free(rng), lambda: sample_free(rng))
    model = build_supernet(8, 10, 5).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    loss_of = released_loss(0.5, logits_function("raw", statistics), "raw")

    def step():
        current = sample_free(rng), sample_free(rng)
        if constraints:
            for archive, cell in zip(archives, current):
                archive.update(cell, lambda: sample_free(rng))
        optimizer.zero_grad()
        loss, _ = loss_of(model, x, y, current, list(zip(*(a.members for a in archives))))
        zero_fill_grads(model.parameters())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()
        return loss

    assert torch.isfinite(benchmark(step))
    assert len(archives[0].members) == constraints


@torch.no_grad()
def test_b_supernet_evaluation(benchmark):
    """One cell on one batch of A, eval mode."""
    rng = np.random.RandomState(0)
    arch = sample_free(rng), sample_free(rng)
    model, (x, _) = build_supernet(8, 10, 5).eval(), images(4)
    assert benchmark(logits_function("raw", False), model, x, arch).isfinite().all()


def test_c_training_step(benchmark):
    """Random_NSAS, C=16 L=20, auxiliary head, batch 16, drop-path 0.1, clip, SGD."""
    model = derived(CNN["Random_NSAS"], False, 10, 16, 20, auxiliary=True).train()
    model.drop_path_prob = 0.1
    optimizer = torch.optim.SGD(model.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    x, y = images(16)

    def step():
        optimizer.zero_grad()
        logits, auxiliary = model(x)
        loss = F.cross_entropy(logits, y) + 0.4 * F.cross_entropy(auxiliary, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()
        return loss

    assert torch.isfinite(benchmark(step))


@torch.no_grad()
def test_d_evaluation(benchmark):
    """Random_NSAS_C, C=36 L=20, batch 16."""
    model = derived(CNN["Random_NSAS_C"], False, 10, 36, 20, auxiliary=True).eval()
    assert benchmark(model, images(16)[0])[0].isfinite().all()


def language_model() -> LanguageModel:
    cell = RECURRENT["Random_NSAS"]
    return LanguageModel(WORDS, WIDTH, DerivedCell(WIDTH, cell.recurrent, cell.concat), Dropouts())


def test_e_recurrent_step(benchmark):
    """V=10,000, H=200, batch 16, 35 steps, all dropouts, beta 1e-3, clip 0.25, SGD."""
    model = language_model().train()
    optimizer, settings = torch.optim.SGD(model.parameters(), 1.0), TrainRecurrent()
    words, generator = torch.randint(0, WORDS, (BPTT + 1, BATCH)), torch.Generator()
    chunk = Chunk(words[:-1], words[1:], generator)
    loss, _ = benchmark(train_step, model, optimizer, chunk, model.start(BATCH), settings)
    assert np.isfinite(loss)


def test_f_recurrent_supernet_step(benchmark):
    """Sizes of E, softmax mixture, embedding dropout 0."""
    cell = SupernetCell(WIDTH, "softmax")
    cell.set_table(1e-3 * torch.randn(RECURRENT_EDGES, 5))
    model = LanguageModel(WORDS, WIDTH, cell, Dropouts(embedding=0.0)).train()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    words, generator = torch.randint(0, WORDS, (BPTT + 1, BATCH)), torch.Generator()

    def step():
        optimizer.zero_grad()
        _, raw, dropped = model.outputs(words[:-1], model.start(BATCH), model.masks(BATCH, generator))
        loss = model.loss(dropped, words[1:]) + activation_penalty(raw, dropped, 0.0, 1e-3)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        return loss

    assert torch.isfinite(benchmark(step))


def test_g_recurrent_evaluation(benchmark):
    """E's network, three chunks of 35, batch 10."""
    model, stream = language_model(), torch.randint(0, WORDS, (3 * BPTT + 1, 10))
    assert np.isfinite(benchmark(text_loss, model, stream, BPTT))


def test_h_nb201_step(benchmark):
    """Three forwards, 0.2/0.4/0.4, clip, SGD; C=16 N=2, batch 32."""
    model, (x, y) = build_nb201_supernet(16, 2, 10).train(), images(32)
    optimizer, touched = make_sgd(model, 0.025, 0.9, 5e-4), Touched(model)
    codes = [(3, 3, 1, 3, 3, 2), (3, 1, 0, 4, 4, 0), (0, 2, 4, 4, 1, 3)]

    def step():
        optimizer.zero_grad()
        loss, _ = live_loss(model, x, y, codes, term_weights("nsas", 2))
        touched.fill(*codes)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()
        return loss

    assert torch.isfinite(benchmark(step))


def test_i_nb201_gdas_step(benchmark):
    """Two constraint forwards, weight step, architecture step; C=16 N=2, batch 32."""
    settings = SearchNb201Gdas()
    model = build_nb201_supernet(16, 2, 10).train()
    alphas = (1e-3 * torch.randn(6, 5)).requires_grad_()
    optimizer, touched = make_sgd(model, settings.lr, settings.momentum, settings.weight_decay), Touched(model)
    arch_optimizer = torch.optim.Adam([alphas], 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    (x, y), (held_x, held_y), generator = images(32), images(32), torch.Generator().manual_seed(0)
    codes = [(3, 1, 0, 4, 4, 0), (0, 2, 4, 4, 1, 3)]

    def step():
        mixture, index, _ = straight_through(alphas, gumbel(alphas.shape, generator), 10.0)
        current = tuple(int(i) for i in index)
        optimizer.zero_grad()
        weights, scale = gdas_weights("nsas", 2, settings.penalty, gradient=False)
        loss, _ = gdas_loss(model, x, y, lambda: Drawn(mixture, current), codes, weights, scale, gradient=False)
        touched.fill(current)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()
        mixture, index, _ = straight_through(alphas, gumbel(alphas.shape, generator), 10.0)
        held = F.cross_entropy(weighted_logits(model, held_x, mixture, index), held_y)
        alphas.grad = torch.autograd.grad(held, alphas)[0]
        touched.note(index.tolist())
        arch_optimizer.step()
        return loss + held.detach()

    assert torch.isfinite(benchmark(step))
