"""RandomNAS with the NSAS loss in the DARTS space.

    for each batch: sample a_t; update the archive with it; then
    L(w) = (1 - eps) CE(w; a_t) + (eps / M) sum_i CE(w; a_i)        a_i: the archive, same mini-batch
    afterwards: of N random cells keep the best on the selection half, five times.

As released the second term is a constant (``constraint_gradient=False``): the gradient is exactly (1 - eps) grad
CE(a_t).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common.cli.errors import UserError
from common.cli.ranges import refuse_idle
from common.data.augment import Augmentation
from common.data.batches import Batches
from common.data.parts import split, take
from common.data.sets import Images, open_images
from common.run import seeds
from common.run.folder import check_finite, open_run
from common.spaces.architecture import save_architecture
from common.spaces.sizes import check_pixels
from common.train.device import pick_device
from common.train.optim import zero_fill_grads
from papers.nsas.method.novelty import Archive
from papers.nsas.method.sampling import SAMPLERS, Cell
from papers.nsas.method.schedules import cosine, shifted
from papers.nsas.network import paths
from papers.nsas.network.architectures import MONITORED
from papers.nsas.network.networks import CIFAR_MEAN, CIFAR_STD, build_supernet, names_of, renew_statistics, table_logits
from papers.nsas.processes import one_process
from papers.nsas.ranges import check_ranges
from papers.nsas.settings import SearchRandomSettings

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

Architecture = tuple[Cell, Cell]
Logits = Callable[[nn.Module, Tensor, Architecture], Tensor]


def search(settings: SearchRandomSettings, options: RunOptions) -> dict:
    """Train the supernet, select; returns the result with the best cell and the winners of all rounds."""
    one_process("this search")
    draw = check(settings, options)
    device = pick_device(options)
    train, valid, pins = halves(settings, options, device)
    with open_run(options, settings, {"data": pins}) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = build_supernet(settings.channels, len(train.images.classes), settings.layers).to(device)
        optimizer = torch.optim.SGD(
            model.parameters(), settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        archives = [
            Archive(settings.constraints, settings.recent, settings.neighbours) for _ in ("normal", "reduction")
        ]
        first = seeds.numpy_rng(options.seed, "first")
        for archive in archives:
            archive.recent.append(draw(first))  # one random cell that is never trained
        step_loss = loss_function(settings)
        epoch, position, total, right = 0, 0, 0.0, 0
        if state := run.load():
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            for archive, stored in zip(archives, state["archives"]):
                archive.restore(stored)
            epoch, position, total, right = state["epoch"], state["position"], state["total"], state["right"]

        def snapshot(epoch: int, position: int) -> dict:
            return {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "position": position,
                "archives": [a.state() for a in archives], "total": total, "right": right,
            }  # fmt: skip

        while epoch < settings.epochs:
            model.train()
            lr = cosine(
                shifted(epoch, settings.shifted_lr), settings.learning_rate, settings.learning_rate_min, settings.epochs
            )
            optimizer.param_groups[0]["lr"] = lr
            for step, (x, y) in enumerate(train.epoch(epoch, position), start=position):
                rng = seeds.numpy_rng(options.seed, "architecture", epoch, step)
                current = (draw(rng), draw(rng))
                for archive, cell in zip(archives, current):
                    archive.update(cell, lambda: draw(rng))  # noqa: B023
                constraints = list(zip(*(a.members for a in archives)))
                optimizer.zero_grad()
                loss, logits = step_loss(model, x, y, current, constraints)
                check_finite(loss, step=step, architecture=current)
                zero_fill_grads(model.parameters())
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
                optimizer.step()
                total += float(loss)
                right += int((logits.argmax(1) == y).sum())
                if run.due():
                    run.save(snapshot(epoch, step + 1))
            epoch, position = epoch + 1, 0
            row = {"epoch": epoch, "lr": lr, "loss": total / len(train)}
            row["train_top1_percent"] = 100.0 * right / len(train.images)
            if settings.monitor:  # fixed cells; each pass draws its own crops and flips, as everywhere
                for number, architecture in enumerate(MONITORED):
                    found = accuracy(model, architecture, valid, settings.table, -1 - epoch * len(MONITORED) - number)
                    row[f"monitored_{number + 1}_percent"] = found
            run.log(**row, constraints=len(archives[0].members))
            total, right = 0.0, 0
            run.save(snapshot(epoch, 0))
        winners = select(model, draw, valid, train, settings, options.seed)
        best = max(winners, key=lambda w: w[1])
        names = names_of(best[0])
        save_architecture(run.folder / "architecture.json", "darts", names, {**run.origin, **origin_of(train.images)})
        metrics = {
            "supernet_accuracy_percent": best[1],
            "supernet_accuracy_mean_of_winners_percent": fmean(w[1] for w in winners),
        }
        return run.finish(
            {"metrics": metrics, "architecture": names, "winners": [[names_of(a), s] for a, s in winners]}
        )


def check(settings: SearchRandomSettings, options: RunOptions) -> Callable:
    """The sampler. Raises UserError for settings out of range or without effect."""
    check_ranges(settings)
    idle = {}
    if settings.table == "softmax":
        idle["unsampled_statistics"] = "--table raw"
    if not settings.constraints:
        idle |= dict.fromkeys(("constraint_gradient", "recent", "neighbours", "mix"), "--constraints above 0")
    refuse_idle(settings, idle, options.given)
    return sampler(settings)


def sampler(settings) -> Callable:
    """The sampler of (constraint, inputs)."""
    key = (settings.constraint, settings.inputs)
    if key not in SAMPLERS:
        known = [i for c, i in SAMPLERS if c == settings.constraint]
        raise UserError(
            f"--constraint {settings.constraint} has no inputs {settings.inputs!r}; use {' or '.join(known)}"
        )
    return SAMPLERS[key]


def halves(settings, options: RunOptions, device: torch.device) -> tuple[Batches, Batches, dict]:
    """Weight part (crop, flip) and selection part of the training set (CIFAR in file order); the latter augmented as
    released.
    """
    images = open_images(settings.dataset, "train", options)
    check_pixels(settings.dataset, images.size)
    images = take(images, settings.train_images, "--train-images")
    first, rest = split(images, settings.train_portion, "--train-portion")
    rest = take(rest, getattr(settings, "select_images", 0), "--select-images")
    digits = images.name == "digits"  # a mirrored digit is another sign
    augmentation = Augmentation(CIFAR_MEAN, CIFAR_STD, pad=2 if digits else 4, flip=not digits)
    train = Batches(first, settings.batch_size, augmentation, options.seed, device=device)
    size = min(getattr(settings, "select_batch_size", settings.batch_size), len(rest))
    augment = getattr(settings, "select_augment", True)
    gdas = not hasattr(settings, "select_augment")
    valid = Batches(
        rest,
        size,
        augmentation,
        options.seed,
        shuffle=gdas,
        device=device,
        stream="valid",
        augment=augment,
    )
    return train, valid, images.pins


def origin_of(images: Images) -> dict:
    """What an architecture file says of the set that its cell was found on."""
    return {"dataset": images.name, "classes": len(images.classes), "pixels": images.size}


def loss_function(settings: SearchRandomSettings) -> Callable[..., tuple[Tensor, Tensor]]:
    """(model, x, y, current, constraints) -> (detached loss, current cell's logits), gradients left in ``.grad``."""
    logits = logits_function(settings.table, settings.unsampled_statistics)
    return (
        paper_loss(settings.mix, logits)
        if settings.constraint_gradient
        else released_loss(settings.mix, logits, settings.table)
    )


def logits_function(table: str, statistics: bool) -> Logits:
    """The network of one architecture under the softmax table (all operations) or the raw one (its path)."""
    if table == "softmax":
        return lambda model, x, architecture: table_logits(model, x, architecture)
    return lambda model, x, architecture: paths.forward(model, x, architecture, statistics=statistics)


def released_loss(mix: float, logits: Logits, table: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """(1 - eps) CE(current) + eps * constant: the constraints are evaluated on the weights as they are, as numbers."""
    dense = table_logits if table == "softmax" else None

    def loss(model: nn.Module, x: Tensor, y: Tensor, current: Architecture, constraints: list[Architecture]):
        output = logits(model, x, current)
        value = nn.functional.cross_entropy(output, y)
        if not constraints:
            value.backward()
            return value.detach(), output.detach()
        others = paths.constraint_losses(model, x, y, constraints, dense)
        total = (1 - mix) * value + mix * fmean(others)
        total.backward()
        return total.detach(), output.detach()

    return loss


def paper_loss(mix: float, logits: Logits) -> Callable[..., tuple[Tensor, Tensor]]:
    """Gradient through every term on the live network; terms are differentiated one by one,
    so one graph lives at a time.
    """

    def loss(model: nn.Module, x: Tensor, y: Tensor, current: Architecture, constraints: list[Architecture]):
        share = 1 - mix if constraints else 1.0
        output = logits(model, x, current)
        total = share * nn.functional.cross_entropy(output, y)
        total.backward()
        total = total.detach()
        for architecture in constraints:
            term = mix / len(constraints) * nn.functional.cross_entropy(logits(model, x, architecture), y)
            term.backward()
            total = total + term.detach()
        return total, output.detach()

    return loss


@torch.no_grad()
def select(
    model: nn.Module, draw: Callable, valid: Batches, train: Batches, settings: SearchRandomSettings, seed: int
) -> list[tuple[Architecture, float]]:
    """Per round, the best of N fresh samples by accuracy (percent) on the selection half, in eval mode."""
    logits = logits_function(settings.table, statistics=False)
    winners = []
    for number in range(settings.select_rounds):
        rng = seeds.numpy_rng(seed, "select", number)
        best = None
        for candidate in range(settings.select_candidates):
            architecture = (draw(rng), draw(rng))
            if settings.recalibrate_batches:
                one = partial(logits, model, architecture=architecture)
                renew_statistics(model, one, train, settings.recalibrate_batches)
            # each evaluation draws its own crops and flips, as the released loader did
            found = accuracy(
                model, architecture, valid, settings.table, number * settings.select_candidates + candidate
            )
            if best is None or found > best[1]:
                best = (architecture, found)
        winners.append(best)
    return winners


@torch.no_grad()
def accuracy(model: nn.Module, architecture: Architecture, valid: Batches, table: str, number: int) -> float:
    """Percent on the whole selection half in eval mode, running values as they are; ``number`` names its crops."""
    logits = logits_function(table, statistics=False)
    model.eval()
    right = 0
    for x, y in valid.epoch(number):
        right += int((logits(model, x, architecture).argmax(1) == y).sum())
    return 100.0 * right / len(valid.images)
