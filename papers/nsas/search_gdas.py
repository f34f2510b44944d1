"""GDAS with NSAS in the DARTS space: tables alpha, relaxed one-hot samples, discretised to one cell a step."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from common.data.batches import Batches, Order
from common.run import distributed, seeds
from common.run.device import pick_device
from common.run.folder import open_run
from common.run.keep import Values
from common.spaces.architecture import save_architecture
from common.spaces.darts.operations import StartsWithReLU
from common.train.compiling import compile_operations
from common.train.optim import zero_fill_grads
from common.train.schedules import cosine
from papers.nsas.data import augmentation, origin_of, search_parts
from papers.nsas.method.architect import plain_gradient, table_loss, unrolled_gradient
from papers.nsas.method.loss import (
    Loss,
    LossSums,
    current_loss,
    differentiate,
    mean_penalty,
    paper_loss,
    released_loss,
    weighted_penalty,
)
from papers.nsas.method.novelty import ConstraintSet
from papers.nsas.method.relaxation import darts_temperature
from papers.nsas.method.sampling import decode_depth, decode_top2, genotype_of, sample_distinct
from papers.nsas.method.schedules import shifted
from papers.nsas.method.selection import accuracy
from papers.nsas.method.tables import Tables
from papers.nsas.networks.paths import logits_function
from papers.nsas.networks.supernet import build_supernet
from papers.nsas.settings import SearchGdas

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from common.cli.verbs import RunOptions
    from common.data.sets import Images
    from common.run.folder import Run
    from papers.nsas.method.sampling import Cell


def search(settings: SearchGdas, options: RunOptions) -> dict:
    """Alternate steps of the tables and of the weights; the cell is read from the tables (Method 4, 6 and 7).

    for each batch: Adam's step of the tables alpha on a random batch of the selection part;
        Z ~ relaxed one-hot of alpha at temperature 0.5 exp(-0.1 step); a_t = the cell that Z is decoded to;
        update the constraint set with a_t; step of the weights on 0.5 CE(w; a_t) + 0.5 penalty of the constraints

    ``semantics`` "2019" (default): unrolled table step, tables restored. "head": plain table step, CE alone, and the
    tables are overwritten by Z, so they never learn and the cell freezes within a few steps (README, deviation 6).
    """
    device, head = pick_device(options), settings.semantics == "head"
    decode = decoder(settings)
    train, valid = open_batches(settings, options, device)
    with open_run(options, settings, data=train.images) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        supernet = build_supernet(settings.channels, len(train.images.classes), settings.layers).to(device)
        compile_operations(supernet, options, StartsWithReLU)
        tables = Tables(settings.arch_lr, settings.arch_weight_decay, device)
        optimizer = torch.optim.SGD(
            supernet.parameters(), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        draw, first = sample_distinct, seeds.numpy_rng(options.seed, "first")  # of the archive, whatever decodes
        untrained = (draw(first), draw(first))
        constraints = ConstraintSet(settings.constraints, settings.recent, settings.neighbours, untrained)
        loss_of, loss_of_tables = loss_function(settings), table_loss(supernet, settings.table)
        sums, now = LossSums(), Values(valid=0.0)
        run.keeps(supernet=supernet, optimizer=optimizer, tables=tables, constraints=constraints, sums=sums, now=now)
        for epoch in run.epochs(settings.epochs):
            lr = cosine(settings.lr, settings.lr_min, shifted(epoch, settings.shifted_lr), settings.epochs)
            optimizer.param_groups[0]["lr"] = lr
            supernet.train()
            for step, shares in run.steps(train.in_shares(), epoch):
                held = next(iter(valid.shares(epoch * len(train) + step)))  # the first of a new shuffle, each time
                if head:
                    gradients = plain_gradient(loss_of_tables, supernet, tables.used, held)
                else:
                    gradients = unrolled_gradient(loss_of_tables, supernet, tables.used, shares, held, optimizer)
                tables.step(gradients)
                samples = tables.sample(darts_temperature(step), seeds.generator(options.seed, "gumbel", epoch, step))
                current = (decode(samples[0].numpy()), decode(samples[1].numpy()))
                rng = seeds.numpy_rng(options.seed, "archive", epoch, step)
                others = constraints.update(current, partial(draw, rng))
                optimizer.zero_grad()
                differentiate(loss_of, supernet, shares, (current, others), sums, step=step, architecture=current)
                zero_fill_grads(supernet.parameters())
                nn.utils.clip_grad_norm_(supernet.parameters(), settings.clip)
                optimizer.step()
                if head:
                    tables.overwrite(samples)
            cell = tables.architecture(decode)
            now.valid = accuracy(supernet, cell, logits_function(settings.table, False), valid, -1 - epoch)
            run.log(epoch=epoch, lr=lr, **sums.read(), valid_top1_percent=now.valid, cell=str(cell))
        return finish(run, tables, settings, now.valid, train.images)


def finish(
    run: Run, tables: Tables, settings: SearchGdas, accuracy_percent: float, images: Images, **more: Any
) -> dict[str, Any]:
    """Write the cell of the tables. more: stands in the result, too."""
    names = genotype_of(tables.architecture(decoder(settings))).as_dict()
    if run.writes:
        save_architecture(run.folder / "architecture.json", "darts", names, {**run.origin, **origin_of(images)})
    result = {"architecture": names, "tables": [table.detach().tolist() for table in tables.used], **more}
    return run.finish({"metrics": {"supernet_accuracy_percent": accuracy_percent}, **result})


def decoder(settings: SearchGdas) -> Callable[[np.ndarray], Cell]:
    """How a cell is read from a table."""
    return decode_depth if settings.constraint == "nsas-c" else decode_top2


def open_batches(settings: SearchGdas, options: RunOptions, device: torch.device) -> tuple[Batches, Batches]:
    """(batches for the weights, batches of the selection part, shuffled and augmented alike)."""
    weights, held = search_parts(settings.dataset, settings.train_images, settings.train_portion, options)
    size = min(settings.batch_size, len(held))
    mine: Any = {"sharing": distributed.per_process(), "device": device}
    train = Batches(weights, settings.batch_size, augmentation(weights), Order(options.seed), **mine)
    return train, Batches(held, size, augmentation(held), Order(options.seed, "valid"), **mine)


def loss_function(settings: SearchGdas) -> Loss:
    """Head: CE of the current cell. 2019: 0.5 CE + 0.5 weighted constant, or the paper's loss."""
    logits_of = logits_function(settings.table, statistics=True)
    if settings.semantics == "head":
        return current_loss(logits_of)
    if settings.constraint_gradient:
        return paper_loss(settings.mix, logits_of)
    penalty = weighted_penalty if settings.weighted else mean_penalty
    return released_loss(settings.mix, logits_of, settings.table, penalty)
