"""RandomNAS with NSAS on NAS-Bench-201: the constraints are made anew at every step, there is no archive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from common.data.batches import Batches, Order
from common.data.parts import take
from common.run import distributed, seeds
from common.run.device import pick_device
from common.run.folder import open_run
from common.run.keep import Values
from common.run.progress import shows
from common.spaces.nasbench201.network import ReLUConvBN, Supernet
from common.train.compiling import compile_operations
from common.train.schedules import cosine
from papers.nsas.method.loss import LossSums, differentiate
from papers.nsas.nasbench201.constraints import Chance, Code, makers_of_random, random_code, uniform
from papers.nsas.nasbench201.loss import constant_loss, live_loss, term_weights
from papers.nsas.nasbench201.result import finish, short
from papers.nsas.nasbench201.settings import SearchNb201Random
from papers.nsas.nasbench201.supernet import batches_of, code_logits, open_halves, open_supernet, scoring_batches
from papers.nsas.networks.supernet import renew_statistics

if TYPE_CHECKING:
    import numpy as np

    from common.cli.verbs import RunOptions
    from common.run.folder import Run


Scored = tuple[Code, float, float]  # a cell, its loss and its accuracy in percent with shared weights


def search(settings: SearchNb201Random, options: RunOptions) -> dict:
    """Train the supernet on random cells and their constraints, then choose a cell (Method 14 and 15).

    for each batch: sample a cell a_t; make the constraint cells a_i, some of them from a_t or from the cell before it;
        step on L(w) = v_0 CE(w; a_t) + sum_i v_i CE(w; a_i), same batch, gradient through every term
    afterwards: score random cells on the other half; the best is it

    As released, diverse cells lose edges (``structure_bug``) and a score mixes a new random cell for every batch
    (``selection``), so that the choice is by chance.
    """
    device = pick_device(options)
    make = makers_of_random(settings.constraints, settings.structure_bug, settings.argument_bug)[settings.constraint]
    weights = term_weights(settings.constraint, settings.constraints)
    loss_of = live_loss if settings.constraint_gradient else constant_loss
    train, valid, note = open_batches(settings, options, device)
    with open_run(options, settings, data=train.images) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        supernet, optimizer, touched = open_supernet(settings, len(train.images.classes), device)
        compile_operations(supernet, options, ReLUConvBN)
        score = scorer(supernet, train, valid, settings)
        sums, now, scores = LossSums(), Values(previous=()), list[Scored]()
        chance = seeds.numpy_rng(options.seed, "select")
        run.keeps(
            supernet=supernet, optimizer=optimizer, touched=touched, sums=sums, now=now, scores=scores, chance=chance
        )
        for epoch in run.epochs(settings.epochs):
            supernet.train()
            lr = cosine(settings.lr, settings.lr_min, epoch, settings.epochs)
            optimizer.param_groups[0]["lr"] = lr
            for step, shares in run.steps(train.in_shares(), epoch):
                draw = uniform(seeds.numpy_rng(options.seed, "architecture", epoch, step))
                if step == 0:  # each epoch begins with a random cell as the one before
                    now.previous = random_code(uniform(seeds.numpy_rng(options.seed, "epoch start", epoch)))
                current = random_code(draw)
                cells = [current, *make(draw, current, now.previous)]
                optimizer.zero_grad()
                differentiate(loss_of, supernet, shares, (cells, weights), sums, step=step, architecture=current)
                touched.fill(*(cells if settings.constraint_gradient else cells[:1]))
                nn.utils.clip_grad_norm_(supernet.parameters(), settings.clip)
                optimizer.step()
                now.previous = current
            draw = uniform(seeds.numpy_rng(options.seed, "epoch", epoch + 1))
            run.log(epoch=epoch, lr=lr, **sums.read(), **looked_at(score, draw, settings.epoch_candidates))
        code, _, accuracy = choose(run, score, chance, settings.select_candidates, scores)
        return finish(run, code, {"supernet_accuracy_percent": accuracy}, options, note, train.images.name)


def choose(
    run: Run, score: Callable[[Chance], Scored], chance: np.random.RandomState, count: int, scores: list[Scored]
) -> Scored:
    """Score ``count`` random cells and write candidates.csv; the best. The run keeps ``chance`` and ``scores``."""
    for _ in run.each(count, "candidate"):
        scores.append(score(uniform(chance)))
    for code, mean_loss, accuracy in scores:
        run.log("candidates", cell=short(code), loss=mean_loss, supernet_accuracy_percent=accuracy)
    return best(scores)


def open_batches(
    settings: SearchNb201Random, options: RunOptions, device: torch.device
) -> tuple[Batches, Batches, str]:
    """(batches for the weights, batches that cells are scored on, where the halves are from)."""
    first, second, note = open_halves(settings.dataset, settings.train_images, options)
    second = take(second, settings.select_images, "--select-images")
    train = batches_of(first, settings.batch_size, Order(options.seed), device)
    return train, scoring_batches(second, settings.select_batch_size, options, device), note


def scorer(
    supernet: Supernet, train: Batches, valid: Batches, settings: SearchNb201Random
) -> Callable[[Chance], Scored]:
    """:func:`score_random_cell` with this supernet, as the settings say."""
    proper = settings.selection == "proper"
    return partial(score_random_cell, supernet, train, valid, proper, settings.recalibrate_batches)


@torch.no_grad()
def score_random_cell(
    supernet: Supernet, train: Batches, valid: Batches, proper: bool, recalibrate: int, draw: Chance
) -> Scored:
    """One pass over the other half in eval mode, with a random cell whose batch-norm values are renewed first.

    proper: the pass is this cell's. As released another random cell is drawn for every batch, so the numbers belong to
    no cell. recalibrate: training batches that renew the values, 0: they stay.
    """
    code = random_code(draw)
    if recalibrate:
        renew_statistics(supernet, partial(code_logits, supernet, code=code), train, recalibrate)
    supernet.eval()
    right, loss, count = 0.0, 0.0, 0.0
    for x, y in shows(valid, "score"):
        cell = code if proper else random_code(draw)
        if len(y):  # a process may have no image of the last batch
            logits = code_logits(supernet, x, cell)
            right += int((logits.argmax(1) == y).sum())
            loss += float(nn.functional.cross_entropy(logits, y, reduction="sum"))
            count += len(y)
    right, loss, count = distributed.summed(right, loss, count)
    return code, loss / count, 100.0 * right / count


def best(scored: Sequence[Scored]) -> Scored:
    """The highest accuracy, the first of equals."""
    return max(scored, key=lambda one: one[2])


def looked_at(score: Callable[[Chance], Scored], draw: Chance, candidates: int) -> dict[str, Any]:
    """What the notebooks print after an epoch: a validation pass, then the best of a few random cells (0: neither)."""
    if not candidates:
        return {}
    _, loss, top1 = score(draw)
    code, _, accuracy = best([score(draw) for _ in range(candidates)])
    return {
        "valid_loss": loss, "valid_top1_percent": top1, "cell": short(code), "supernet_accuracy_percent": accuracy,
    }  # fmt: skip
