"""NSAS: search, evaluation and training of convolutional and recurrent cells, NAS-Bench-201 steps (A to I).

How the original is timed on the same machine: the functions of its notebooks and programs are called on the CPU with
device moves left out, inputs of noise, data loading excluded, one thread, ``time.process_time`` around the call,
medians; peak memory is that of the process, imports included.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from common.spaces.darts.network import derived
from common.train.loop import auxiliary_loss
from common.train.loop import train_step as one_train_step
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
from tests.benchmarks.workloads.place import Place, Step, Workload


def cells(at: Place) -> torch.nn.Module:
    return build_supernet(*at.size((8, 10, 5), (4, 10, 3))).to(at.device)


def random_nas_step(
    at: Place, constraints: int, statistics: bool, shape: tuple[int, int, int] = (0, 0, 0), images: int = 0,
    table: Literal["raw", "softmax"] = "raw",
) -> Step:  # fmt: skip
    """shape: channels, classes and cells of the supernet, where they are not the benchmark's; images: of a batch."""
    rng, (x, y) = np.random.RandomState(0), at.batch(images or at.size(4, 2))
    archives = [Archive(constraints) for _ in range(2)]
    for archive in archives:
        archive.recent.append(sample_free(rng))
        for _ in range(constraints):
            archive.update(sample_free(rng), lambda: sample_free(rng))
    model = (build_supernet(*shape).to(at.device) if any(shape) else cells(at)).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    loss_of = released_loss(0.5, logits_function(table, statistics), table)

    def step() -> torch.Tensor:
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

    return step


def a_search_step(at: Place) -> Step:
    """A: RandomNAS-NSAS step, C 8, 5 cells, batch 4, archive of 8, statistics as in dense execution.

    Original: sampling, archive update, one forward, eight copies and forwards, backward, clip, SGD.
    """
    return random_nas_step(at, at.size(8, 2), True)


def a_search_step_path(at: Place) -> Step:
    """A with the statistics of unsampled operations left alone. Original: has no such form, timed as A."""
    return random_nas_step(at, at.size(8, 2), False)


def a0_search_step(at: Place) -> Step:
    """A0: A without constraints. Original: the step of RandomNAS."""
    return random_nas_step(at, 0, True)


def b_supernet_evaluation(at: Place) -> Step:
    """B: one cell on one batch of A. Original: eval mode with a graph built."""
    rng = np.random.RandomState(0)
    arch, model = (sample_free(rng), sample_free(rng)), cells(at).eval()
    logits_of, x = logits_function("raw", False), at.pictures(at.size(4, 2))
    return torch.no_grad()(lambda: logits_of(model, x, arch))


def c_train_step(at: Place) -> Step:
    """C: training step, Random_NSAS, C 16, 20 cells, auxiliary head, batch 16. Original: the same to the SGD step."""
    model = derived(CNN["Random_NSAS"], False, 10, *at.size((16, 20), (4, 3)), auxiliary=True).to(at.device).train()
    model.drop_path_prob = 0.1
    optimizer = torch.optim.SGD(model.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    batch, loss_of = at.batch(at.size(16, 2)), auxiliary_loss(F.cross_entropy, 0.4)
    return lambda: one_train_step(model, batch, optimizer, loss_of, clip_norm=5.0)


def d_evaluation(at: Place) -> Step:
    """D: evaluation, Random_NSAS_C, C 36, 20 cells, batch 16. Original: with a graph built, as its test does."""
    model = derived(CNN["Random_NSAS_C"], False, 10, *at.size((36, 20), (4, 3)), auxiliary=True).to(at.device).eval()
    x = at.pictures(at.size(16, 2))
    return torch.no_grad()(lambda: model(x)[0])


def text(at: Place) -> tuple[int, int, int, int]:
    """Words of the vocabulary, width, sequences in parallel, words of a chunk."""
    return at.size((10_000, 200, 16, 35), (50, 8, 2, 5))


def language_model(at: Place) -> LanguageModel:
    vocabulary, width, _, _ = text(at)
    cell = RECURRENT["Random_NSAS"]
    derived_cell = DerivedCell(width, cell.recurrent, cell.concat)
    return LanguageModel(vocabulary, width, derived_cell, Dropouts()).to(at.device)


def e_recurrent_step(at: Place) -> Step:
    """E: recurrent training step, 10,000 words, width 200, 16 x 35, all dropouts. Original: the same to SGD."""
    vocabulary, _, sequences, chunk = text(at)
    model, settings = language_model(at).train(), TrainRecurrent()
    optimizer, generator = torch.optim.SGD(model.parameters(), 1.0), torch.Generator()
    words = torch.randint(0, vocabulary, (chunk + 1, sequences)).to(at.device)

    def step() -> float:
        piece = Chunk(words[:-1], words[1:], generator)
        return train_step(model, optimizer, piece, model.start(sequences), settings)[0]

    return step


def f_recurrent_supernet_step(at: Place) -> Step:
    """F: step of the recurrent supernet, sizes of E, softmax mixture. Original: the same, no embedding dropout."""
    vocabulary, width, sequences, chunk = text(at)
    cell = SupernetCell(width, "softmax")
    cell.set_table(1e-3 * torch.randn(RECURRENT_EDGES, 5))
    model = LanguageModel(vocabulary, width, cell, Dropouts(embedding=0.0)).to(at.device).train()
    optimizer, generator = torch.optim.SGD(model.parameters(), 1.0), torch.Generator()
    words = torch.randint(0, vocabulary, (chunk + 1, sequences)).to(at.device)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        _, raw, dropped = model.outputs(words[:-1], model.start(sequences), model.masks(sequences, generator))
        loss = model.loss(dropped, words[1:]) + activation_penalty(raw, dropped, 0.0, 1e-3)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        return loss.detach()

    return step


def g_recurrent_evaluation(at: Place) -> Step:
    """G: evaluation of E's network, three chunks of 35, 10 in parallel. Original: its test pass."""
    vocabulary, _, _, chunk = text(at)
    model = language_model(at)
    stream = torch.randint(0, vocabulary, (3 * chunk + 1, at.size(10, 2))).to(at.device)
    return lambda: text_loss(model, stream, chunk)


def nb201(at: Place) -> torch.nn.Module:
    return build_nb201_supernet(*at.size((16, 2, 10), (4, 1, 10))).to(at.device).train()


def h_nb201_step(at: Place) -> Step:
    """H: NAS-Bench-201 RandomNAS-NSAS step, C 16, 2 cells a stage, batch 32. Original: three forwards, SGD."""
    model, (x, y) = nb201(at), at.batch(at.size(32, 2))
    optimizer, touched = make_sgd(model, 0.025, 0.9, 5e-4), Touched(model)
    codes = [(3, 3, 1, 3, 3, 2), (3, 1, 0, 4, 4, 0), (0, 2, 4, 4, 1, 3)]

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss, _ = live_loss(model, x, y, codes, term_weights("nsas", 2))
        touched.fill(*codes)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()
        return loss

    return step


def i_nb201_gdas_step(at: Place) -> Step:
    """I: GDAS-NSAS step, same sizes. Original: two constraint forwards, weight step, architecture step."""
    settings, model = SearchNb201Gdas(), nb201(at)
    alphas = (1e-3 * torch.randn(6, 5)).requires_grad_()
    optimizer, touched = make_sgd(model, settings.lr, settings.momentum, settings.weight_decay), Touched(model)
    arch_optimizer = torch.optim.Adam([alphas], 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    images = at.size(32, 2)
    (x, y), (held_x, held_y) = at.batch(images), at.batch(images)
    generator, codes = torch.Generator().manual_seed(0), [(3, 1, 0, 4, 4, 0), (0, 2, 4, 4, 1, 3)]

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        mixture, index, _ = straight_through(alphas, gumbel(alphas.shape, generator), 10.0)
        return mixture.to(at.device), index

    def step() -> torch.Tensor:
        mixture, index = draw()
        current = tuple(int(i) for i in index)
        optimizer.zero_grad()
        weights, scale = gdas_weights("nsas", 2, settings.penalty, gradient=False)
        loss, _ = gdas_loss(model, x, y, lambda: Drawn(mixture, current), codes, weights, scale, gradient=False)
        touched.fill(current)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()
        mixture, index = draw()
        held = F.cross_entropy(weighted_logits(model, held_x, mixture, index), held_y)
        alphas.grad = torch.autograd.grad(held, alphas)[0]
        touched.note(index.tolist())
        arch_optimizer.step()
        return loss + held.detach()

    return step


WORKLOADS = {
    "a_search_step": Workload(a_search_step, 4),
    "a_search_step_path": Workload(a_search_step_path, 4),
    "a0_search_step": Workload(a0_search_step, 4),
    "b_supernet_evaluation": Workload(b_supernet_evaluation, 4),
    "c_train_step": Workload(c_train_step, 16),
    "d_evaluation": Workload(d_evaluation, 16),
    "e_recurrent_step": Workload(e_recurrent_step, 16),
    "f_recurrent_supernet_step": Workload(f_recurrent_supernet_step, 16),
    "g_recurrent_evaluation": Workload(g_recurrent_evaluation, 10),
    "h_nb201_step": Workload(h_nb201_step, 32),
    "i_nb201_gdas_step": Workload(i_nb201_gdas_step, 32),
}
