"""RandomNAS with NSAS on NAS-Bench-201: constraints are generated anew at every step, no archive.

All terms with gradient, on the same batch, live network, in the order of their forwards:
    NSAS (M = 2), R, G:  0.2 cur + 0.4 random + 0.4 second          NSAS M >= 3:  0.8 cur + (0.2 / M) sum constraints
    LoW: 0.8 cur + 0.2 previous                    compensation: 0.2 cur + 0.4 compensation + 0.4 previous
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from common.data.batches import Batches
from common.run import seeds
from common.run.folder import check_finite, open_run
from common.train.device import pick_device
from papers.nsas.method.schedules import cosine
from papers.nsas.nasbench201 import constraints as c201
from papers.nsas.nasbench201.parts import (
    Code,
    Touched,
    constant_loss,
    drawer,
    finish,
    live_loss,
    make_sgd,
    open_halves,
    term_weights,
)
from papers.nsas.nasbench201.settings import SearchNb201Random
from papers.nsas.network.networks import build_nb201_supernet, code_logits, renew_statistics
from papers.nsas.processes import one_process

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def search(settings: SearchNb201Random, options: RunOptions) -> dict:
    """RandomNAS with constraints; the final cell is the best of N random ones by the chosen selection rule."""
    one_process("this search")
    make = c201.makers_of_random(settings.constraints, settings.structure_bug, settings.argument_bug)[
        settings.constraint
    ]
    device = pick_device(options)
    weights = term_weights(settings.constraint, settings.constraints)
    train, valid, pins, note = open_halves(settings, options, device, "test")
    step_loss = live_loss if settings.constraint_gradient else constant_loss
    with open_run(options, settings, {"data": pins}) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = build_nb201_supernet(settings.channels, settings.cells, len(train.images.classes)).to(device)
        optimizer, touched = make_sgd(model.parameters(), settings), Touched(model)
        epoch, position, total, right = 0, 0, 0.0, 0
        previous: Code = ()
        if state := run.load():
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            touched.restore(state["touched"])
            epoch, position, total, right = state["epoch"], state["position"], state["total"], state["right"]
            previous = tuple(state["previous"])

        def snapshot(epoch: int, position: int) -> dict:
            return {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "touched": touched.state(),
                "epoch": epoch, "position": position, "previous": list(previous), "total": total, "right": right,
            }  # fmt: skip

        while epoch < settings.epochs:
            model.train()
            lr = cosine(epoch, settings.lr, settings.lr_min, settings.epochs)
            optimizer.param_groups[0]["lr"] = lr
            if position == 0:  # each epoch begins with a random cell as the previous one
                previous = c201.random_code(drawer(seeds.numpy_rng(options.seed, "epoch start", epoch)))
            for step, (x, y) in enumerate(train.epoch(epoch, position), start=position):
                draw = drawer(seeds.numpy_rng(options.seed, "architecture", epoch, step))
                current = c201.random_code(draw)
                codes = [current, *make(draw, current, previous)]
                optimizer.zero_grad()
                loss, logits = step_loss(model, x, y, codes, weights)
                check_finite(loss, step=step, architecture=current)
                touched.note(*(codes if settings.constraint_gradient else codes[:1]))
                touched.fill()
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
                optimizer.step()
                previous, total = current, total + float(loss)
                right += int((logits.argmax(1) == y).sum())  # of the last forward, as the notebooks print it
                if run.due():
                    run.save(snapshot(epoch, step + 1))
            epoch, position = epoch + 1, 0
            row = {"epoch": epoch, "lr": lr, "loss": total / len(train)}
            row["train_top1_percent"] = 100.0 * right / len(train.images)
            if settings.epoch_candidates:
                rng = seeds.numpy_rng(options.seed, "epoch", epoch)
                _, row["valid_loss"], row["valid_top1_percent"] = score(model, train, valid, settings, drawer(rng))
                code, accuracy = select(model, train, valid, settings, rng, settings.epoch_candidates)
                row |= {"cell": "c" + "".join(map(str, code)), "supernet_accuracy_percent": accuracy}
            run.log(**row)
            total, right = 0.0, 0
            run.save(snapshot(epoch, 0))
        rng = seeds.numpy_rng(options.seed, "select")
        code, accuracy = select(model, train, valid, settings, rng, settings.select_candidates)
        return finish(run, code, {"supernet_accuracy_percent": accuracy}, options, note, train.images.name)


def select(
    model, train: Batches, valid: Batches, settings: SearchNb201Random, rng, candidates: int
) -> tuple[Code, float]:
    """The best of N random cells by accuracy (percent) in a pass of :func:`score`."""
    draw = drawer(rng)
    scored = [score(model, train, valid, settings, draw) for _ in range(candidates)]
    code, _, accuracy = max(scored, key=lambda one: one[2])  # the first of equals
    return code, accuracy


@torch.no_grad()
def score(
    model, train: Batches, valid: Batches, settings: SearchNb201Random, draw: c201.Draw
) -> tuple[Code, float, float]:
    """(a random cell, loss, accuracy in percent) of one pass over the other half in eval mode.

    selection "released": another random cell is drawn for every batch, so the numbers belong to no cell.
    """
    code = c201.random_code(draw)
    if settings.recalibrate_batches:
        renew_statistics(model, partial(code_logits, model, code=code), train, settings.recalibrate_batches)
    model.eval()
    right, loss, count = 0, 0.0, 0
    for x, y in valid.epoch(0):
        used = c201.random_code(draw) if settings.selection == "released" else code
        logits = code_logits(model, x, used)
        right += int((logits.argmax(1) == y).sum())
        loss += float(nn.functional.cross_entropy(logits, y, reduction="sum"))
        count += len(y)
    return code, loss / count, 100.0 * right / count
