"""GDAS with NSAS on NAS-Bench-201.

As released, constraint losses are numbers without gradient; what remains of the method is that batch-norm statistics
move once more for each constraint.  A step takes three Gumbel draws: h for the constraints, the current cell, and that
of the architecture step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common.run import seeds
from common.run.folder import check_finite, open_run
from common.train.device import pick_device
from papers.nsas.method.relaxation import gumbel, nb201_temperature, straight_through
from papers.nsas.method.schedules import cosine
from papers.nsas.nasbench201 import constraints as c201
from papers.nsas.nasbench201.parts import Code, Touched, drawer, finish, make_sgd, open_halves, term_weights
from papers.nsas.nasbench201.settings import SearchNb201Gdas
from papers.nsas.network.networks import build_nb201_supernet, code_logits, weighted_logits
from papers.nsas.processes import one_process

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def search(settings: SearchNb201Gdas, options: RunOptions) -> dict:
    """GDAS with constraints; the final cell is the argmax of alpha after the last epoch."""
    one_process("this search")
    make = c201.makers_of_gdas(settings.constraints, settings.shared_cells)[settings.constraint]
    device = pick_device(options)
    weights, scale = gdas_weights(settings)
    train, valid, pins, note = open_halves(settings, options, device, "train")
    with open_run(options, settings, {"data": pins}) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = build_nb201_supernet(settings.channels, settings.cells, len(train.images.classes)).to(device)
        alphas = initial_alphas().to(device).requires_grad_()
        optimizer, touched = make_sgd(model.parameters(), settings), Touched(model)
        arch_optimizer = torch.optim.Adam(
            [alphas], settings.arch_lr, betas=(0.5, 0.999), weight_decay=settings.arch_weight_decay
        )
        epoch, position, sums, stale, valid_top1 = 0, 0, [0.0] * 4, None, 0.0
        previous: Code = ()
        if state := run.load():
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            arch_optimizer.load_state_dict(state["arch_optimizer"])
            with torch.no_grad():
                alphas.copy_(state["alphas"])
            touched.restore(state["touched"])
            epoch, position, sums, stale = state["epoch"], state["position"], state["sums"], state["stale"]
            previous, valid_top1 = tuple(state["previous"]), state["valid_top1"]

        def snapshot(epoch: int, position: int) -> dict:
            return {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "alphas": alphas.detach(),
                "arch_optimizer": arch_optimizer.state_dict(), "touched": touched.state(), "epoch": epoch,
                "position": position, "sums": sums, "previous": list(previous), "stale": stale,
                "valid_top1": valid_top1,
            }  # fmt: skip

        while epoch < settings.epochs:
            model.train()
            lr = cosine(epoch, settings.lr, settings.lr_min, settings.epochs)
            tau = nb201_temperature(epoch, settings.epochs, settings.tau_max, settings.tau_min)
            optimizer.param_groups[0]["lr"] = lr
            for step, (x, y) in enumerate(train.epoch(epoch, position), start=position):
                # 1. weights: constraint forwards first, then the current cell
                draws = [
                    straight_through(
                        alphas, gumbel(alphas.shape, seeds.generator(options.seed, name, epoch, step)).to(device), tau
                    )
                    for name in ("gumbel-constraints", "gumbel")
                ]
                own, current = (tuple(int(i) for i in index) for _, index, _ in draws)
                draw = drawer(seeds.numpy_rng(options.seed, "constraints", epoch, step))
                if step == 0:  # as released h, else a random cell
                    previous = own if settings.shared_cells else c201.random_code(draw)
                constraints = make(draw, own if settings.shared_cells else current, previous)
                optimizer.zero_grad()
                alphas.grad = stale.clone() if settings.stale_clip and stale is not None else None
                loss, logits = gdas_step_loss(
                    model, x, y, draws[1][0], current, constraints, weights, settings.constraint_gradient, scale
                )
                check_finite(loss, step=step, architecture=current)
                touched.note(current, *(constraints if settings.constraint_gradient else []))
                touched.fill()
                clipped = [*model.parameters(), alphas] if settings.stale_clip else list(model.parameters())
                nn.utils.clip_grad_norm_(clipped, settings.clip)
                optimizer.step()
                # 2. alphas: a fresh draw on a batch of the other half
                held_x, held_y = valid.drawn(epoch * len(train) + step, len(y))  # with replacement, as released
                noise = gumbel(alphas.shape, seeds.generator(options.seed, "gumbel-alpha", epoch, step)).to(device)
                mixture, index, _ = straight_through(alphas, noise, tau)
                held_logits = weighted_logits(model, held_x, mixture, index)
                arch_loss = nn.functional.cross_entropy(held_logits, held_y)
                alphas.grad = torch.autograd.grad(arch_loss, alphas)[0]
                touched.note(index.tolist())  # as released it leaves gradients in the weights; clearing makes them zero
                arch_optimizer.step()
                stale = alphas.grad.clone()
                previous = current
                sums = [
                    sums[0] + float(loss), sums[1] + int((logits.argmax(1) == y).sum()),
                    sums[2] + float(arch_loss.detach()), sums[3] + int((held_logits.argmax(1) == held_y).sum()),
                ]  # fmt: skip
                if run.due():
                    run.save(snapshot(epoch, step + 1))
            epoch, position, count = epoch + 1, 0, len(train.images)
            valid_top1 = 100.0 * sums[3] / count
            run.log(
                epoch=epoch, lr=lr, tau=tau, loss=sums[0] / len(train), train_top1_percent=100.0 * sums[1] / count,
                valid_loss=sums[2] / len(train), valid_top1_percent=valid_top1,
                cell="c" + "".join(map(str, decode(alphas))),
            )  # fmt: skip
            sums = [0.0] * 4
            run.save(snapshot(epoch, 0))
        metrics = {"supernet_accuracy_percent": valid_top1}  # of the last epoch's architecture steps, as printed
        return finish(run, decode(alphas), metrics, options, note, train.images.name)


def initial_alphas() -> Tensor:
    """1e-3 normal [6, 5]."""
    return 1e-3 * torch.randn(c201.EDGES, c201.OPERATIONS)


def decode(alphas: Tensor) -> Code:
    """The cell of alpha [6, 5]: the largest entry of each edge, the first of equals."""
    return tuple(int(i) for i in alphas.detach().argmax(-1))


def gdas_weights(settings: SearchNb201Gdas) -> tuple[list[float], float]:
    """(weights of the current cell and of each constraint in the reported loss, what multiplies the current cell's
    gradient). NSAS, R, G add numbers to the loss and subtract them again: as released their gradient keeps weight 1.
    """
    if settings.constraint == "none":
        return [1.0], 1.0
    if settings.constraint in ("compensation", "low"):
        weights = term_weights(settings.constraint, 2)
        return weights, weights[0]
    number = settings.constraints if settings.constraint == "nsas" else 2
    weights = [1 - settings.penalty] + [settings.penalty / number] * number
    return weights, weights[0] if settings.constraint_gradient else 1.0


def gdas_step_loss(
    model, x, y, mixture, current, constraints, weights, gradient: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Constraint forwards in train mode (no graph as released), then the current cell through its straight-through
    weights, whose gradient is multiplied by ``scale``. Returns the reported loss sum_i w_i CE(a_i), weights of the
    current cell first, and the current cell's logits.
    """
    total = x.new_zeros(())
    for code, weight in zip(constraints, weights[1:]):
        with torch.set_grad_enabled(gradient):
            term = weight * nn.functional.cross_entropy(code_logits(model, x, code), y)
        if gradient:
            term.backward()
        total = total + term.detach()
    logits = weighted_logits(model, x, mixture, current)
    loss = nn.functional.cross_entropy(logits, y)
    (scale * loss).backward()
    return total + weights[0] * loss.detach(), logits.detach()
