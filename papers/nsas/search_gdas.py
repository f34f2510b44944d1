"""GDAS with NSAS in the DARTS space: tables alpha, relaxed one-hot samples, discretised to one cell a
step.

2019 semantics (default): unrolled architecture step, loss 0.5 CE + 0.5 * similarity-weighted constant, tables restored.
``semantics="head"``: plain architecture step, CE alone, and the tables are overwritten by the sample, so they never
learn and the cell freezes within a few steps (each a numbered deviation in the README).
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common.cli.ranges import refuse_idle
from common.run import seeds
from common.run.folder import check_finite, open_run
from common.spaces.architecture import save_architecture
from common.train.device import pick_device
from common.train.optim import zero_fill_grads
from papers.nsas.method import architect
from papers.nsas.method.novelty import Archive, similarity_weights, weighted_recursion
from papers.nsas.method.relaxation import FLOOR, darts_temperature, relaxed_one_hot
from papers.nsas.method.sampling import EDGES, OPERATIONS, decode_depth, decode_top2, sample_distinct
from papers.nsas.method.schedules import cosine, shifted
from papers.nsas.network import paths
from papers.nsas.network.networks import build_supernet, names_of, table_logits
from papers.nsas.processes import one_process
from papers.nsas.ranges import check_ranges
from papers.nsas.search_random import accuracy, halves, logits_function, origin_of, paper_loss
from papers.nsas.settings import SearchGdasSettings

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def search(settings: SearchGdasSettings, options: RunOptions) -> dict:
    """Alternate table and weight steps; the result is the cell decoded from the tables."""
    one_process("this search")
    check(settings, options)
    device = pick_device(options)
    decode = decode_depth if settings.constraint == "nsas-c" else decode_top2
    draw = sample_distinct  # of the archive, also where the decoder fixes the inputs
    train, valid, pins = halves(settings, options, device)
    with open_run(options, settings, {"data": pins}) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = build_supernet(settings.channels, len(train.images.classes), settings.layers).to(device)
        initial = [(1e-3 * torch.randn(EDGES, OPERATIONS)).to(device).requires_grad_() for _ in range(2)]
        tables = list(initial)  # what the network uses; under "head" no longer what Adam holds
        optimizer = torch.optim.SGD(
            model.parameters(), settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        arch_optimizer = torch.optim.Adam(
            initial, settings.arch_learning_rate, betas=(0.5, 0.999), weight_decay=settings.arch_weight_decay
        )
        archives = [Archive(settings.constraints, settings.recent, settings.neighbours) for _ in range(2)]
        first = seeds.numpy_rng(options.seed, "first")
        for archive in archives:
            archive.recent.append(draw(first))
        step_loss = loss_function(settings)
        table_gradient = unrolled_gradient if settings.semantics == "2019" else plain_gradient
        after_step = keep_tables if settings.semantics == "2019" else overwrite_tables
        epoch, position, total, right, held_accuracy = 0, 0, 0.0, 0, 0.0
        if state := run.load():
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            arch_optimizer.load_state_dict(state["arch_optimizer"])
            with torch.no_grad():
                for t, stored in zip(initial, state["initial"]):
                    t.copy_(stored)
            if state["tables"] is not None:
                tables = [t.requires_grad_() for t in state["tables"]]
            for archive, stored in zip(archives, state["archives"]):
                archive.restore(stored)
            epoch, position, total, right = state["epoch"], state["position"], state["total"], state["right"]
            held_accuracy = state["held_accuracy"]

        def snapshot(epoch: int, position: int) -> dict:
            return {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                "arch_optimizer": arch_optimizer.state_dict(), "initial": [t.detach() for t in initial],
                "tables": None if tables[0] is initial[0] else [t.detach() for t in tables],
                "archives": [a.state() for a in archives], "epoch": epoch, "position": position, "total": total,
                "right": right, "held_accuracy": held_accuracy,
            }  # fmt: skip

        while epoch < settings.epochs:
            model.train()
            lr = cosine(
                shifted(epoch, settings.shifted_lr), settings.learning_rate, settings.learning_rate_min, settings.epochs
            )
            optimizer.param_groups[0]["lr"] = lr
            for step, (x, y) in enumerate(train.epoch(epoch, position), start=position):
                # 1. architecture step on a random selection batch: the first of a newly shuffled epoch, every time
                held_out = next(iter(valid.epoch(epoch * len(train) + step)))
                gradients = table_gradient(model, tables, (x, y), held_out, lr, optimizer, settings)
                for t, g in zip(initial, gradients):
                    t.grad = g if tables[0] is initial[0] else torch.zeros_like(t)
                arch_optimizer.step()
                # 2. to 4. temperature of the step within the epoch, sample, discretise
                generator = seeds.generator(options.seed, "gumbel", epoch, step)
                samples = [
                    relaxed_one_hot(
                        t.detach().cpu(), torch.rand(t.shape, generator=generator).clamp(FLOOR, 1 - FLOOR),
                        darts_temperature(step),
                    )
                    for t in tables
                ]  # fmt: skip
                current = tuple(decode(sample.numpy()) for sample in samples)
                # 5. archive, before the loss that uses it; 6. weights
                rng = seeds.numpy_rng(options.seed, "archive", epoch, step)
                for archive, cell in zip(archives, current):
                    archive.update(cell, lambda: draw(rng))  # noqa: B023
                constraints = list(zip(*(a.members for a in archives)))
                optimizer.zero_grad()
                loss, logits = step_loss(model, x, y, current, constraints)
                check_finite(loss, step=step, architecture=current)
                zero_fill_grads(model.parameters())
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
                optimizer.step()
                tables = after_step(tables, samples)
                total += float(loss)
                right += int((logits.argmax(1) == y).sum())
                if run.due():
                    run.save(snapshot(epoch, step + 1))
            epoch, position = epoch + 1, 0
            cell = tuple(decode(t.detach().cpu().numpy()) for t in tables)
            held_accuracy = accuracy(model, cell, valid, settings.table, -epoch)  # as both originals do, same half
            run.log(
                epoch=epoch, lr=lr, loss=total / len(train), train_top1_percent=100.0 * right / len(train.images),
                valid_top1_percent=held_accuracy, cell=str(cell),
            )  # fmt: skip
            total, right = 0.0, 0
            run.save(snapshot(epoch, 0))
        names = names_of(tuple(decode(t.detach().cpu().numpy()) for t in tables))
        save_architecture(run.folder / "architecture.json", "darts", names, {**run.origin, **origin_of(train.images)})
        metrics = {"supernet_accuracy_percent": held_accuracy}
        return run.finish({"metrics": metrics, "architecture": names, "tables": [t.detach().tolist() for t in tables]})


def check(settings: SearchGdasSettings, options: RunOptions) -> None:
    """Raises UserError for settings out of range or without effect."""
    check_ranges(settings)
    idle = {}
    archive = ("recent", "neighbours", "mix", "constraint_gradient")
    if not settings.constraints:
        idle |= dict.fromkeys((*archive, "weighted"), "--constraints above 0")
    if settings.constraint_gradient:
        idle["weighted"] = "--no-constraint-gradient"
    if settings.semantics == "head":
        idle |= dict.fromkeys((*archive, "constraints", "weighted"), "--semantics 2019")
    refuse_idle(settings, idle, options.given)


def unrolled_gradient(model, tables, batch, held_out, lr, optimizer, settings: SearchGdasSettings) -> list[Tensor]:
    """2019: through one SGD step ahead."""
    buffers = {
        p: s["momentum_buffer"] for p, s in optimizer.state.items() if s.get("momentum_buffer") is not None
    }  # fmt: skip
    loss = architect.table_loss(model, settings.table)
    return architect.second_order(
        loss, model, tables, batch, held_out, lr, settings.momentum, settings.weight_decay, buffers
    )


def plain_gradient(model, tables, batch, held_out, lr, optimizer, settings: SearchGdasSettings) -> list[Tensor]:
    """Head: the validation gradient alone."""
    return architect.first_order(architect.table_loss(model, settings.table), tables, held_out)


def keep_tables(tables: list[Tensor], samples: list[Tensor]) -> list[Tensor]:
    """2019: the tables are restored after the step."""
    return tables


def overwrite_tables(tables: list[Tensor], samples: list[Tensor]) -> list[Tensor]:
    """Head: the tables become the sample; Adam still holds the initial ones."""
    return [s.to(t.device).requires_grad_() for s, t in zip(samples, tables)]


def loss_function(settings: SearchGdasSettings) -> Callable[..., tuple[Tensor, Tensor]]:
    """(model, x, y, current, constraints) -> (detached loss, current cell's logits).

    Head: CE of the current cell. 2019: 0.5 CE + 0.5 weighted constant; or the paper's loss.
    """
    logits = logits_function(settings.table, statistics=True)
    if settings.semantics == "head":
        alone = paper_loss(0.0, logits)
        return lambda model, x, y, current, constraints: alone(model, x, y, current, [])
    if settings.constraint_gradient:
        return paper_loss(settings.mix, logits)
    dense = table_logits if settings.table == "softmax" else None

    def loss(model, x, y, current, constraints) -> tuple[Tensor, Tensor]:
        output = logits(model, x, current)
        value = nn.functional.cross_entropy(output, y)
        if not constraints:
            value.backward()
            return value.detach(), output.detach()
        others = paths.constraint_losses(model, x, y, constraints, dense)
        if settings.weighted:
            penalty = weighted_recursion(similarity_weights(current, constraints), others)
        else:
            penalty = fmean(others)
        total = (1 - settings.mix) * value + settings.mix * penalty
        total.backward()
        return total.detach(), output.detach()

    return loss
