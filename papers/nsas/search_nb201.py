"""RandomNAS and GDAS with NSAS on NAS-Bench-201 (section 6): constraints are generated anew at every step, no archive.

RandomNAS, all terms with gradient on the same batch, live network:
    NSAS (M = 2), R, G:  0.2 cur + 0.4 random + 0.4 second          NSAS M >= 3:  0.8 cur + (0.2 / M) sum constraints
    LoW: 0.8 cur + 0.2 previous                                      compensation: 0.2 cur + 0.4 previous + 0.4
    compensation GDAS as released: constraint forwards are numbers, so the weight gradient is that of the current
    cell alone; what remains of the method is that batch-norm statistics move once more for each constraint.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common import seeds
from common.architecture import save_architecture
from common.data.augment import Augmentation
from common.data.batches import Batches
from common.data.nasbench201 import Table, halves, looked_up, release_1_0, to_string
from common.data.sources import open_images
from common.device import pick_device
from common.errors import UserError
from common.optim import zero_fill_grads
from common.runs import check_finite, open_run
from common.spaces.nasbench201_graph import connected
from common.spaces.sizes import check_pixels
from papers.nsas import constraints201 as c201
from papers.nsas.networks import (
    NB201_MEAN,
    NB201_STD,
    build_nb201_supernet,
    code_logits,
    renew_statistics,
    weighted_logits,
)
from papers.nsas.processes import one_process
from papers.nsas.ranges import check_ranges
from papers.nsas.relaxation import gumbel, nb201_temperature, straight_through
from papers.nsas.schedules import cosine
from papers.nsas.settings import SearchNb201GdasSettings, SearchNb201RandomSettings

if TYPE_CHECKING:
    from common.cli import RunOptions

Code = tuple[int, ...]


def constraint_maker(kind: str, number: int, bug: bool) -> Callable[[Callable, Code, Code | None], list[Code]]:
    """(draw, current, previous) -> the constraint cells of a step, structure bug included when asked for."""
    shape = c201.effective_as_released if bug else c201.as_is

    def nsas(draw, current, previous):
        cells = [c201.random_code(draw)]
        while len(cells) < number:
            cells.append(c201.diverse(draw, *cells))
        return [cells[0], *(shape(cell) for cell in cells[1:])]

    def independent(draw, current, previous):
        return [c201.random_code(draw), c201.random_code(draw)]

    def compensated(draw, current, previous):
        chance = c201.random_code(draw)
        return [chance, shape(c201.compensation(draw, chance, current))]

    def before(draw, current, previous):
        previous = previous or c201.random_code(draw)  # random at the start of each epoch
        return [previous, shape(c201.compensation(draw, previous, current))]

    def last(draw, current, previous):
        return [previous or c201.random_code(draw)]

    def nothing(draw, current, previous):
        return []

    if kind == "nsas" and not 2 <= number <= 5:
        raise UserError(f"--constraints {number}: NSAS on NAS-Bench-201 takes 2 to 5 (there are five operations)")
    return {"nsas": nsas, "r": independent, "g": compensated, "compensation": before, "low": last, "none": nothing}[
        kind
    ]


def term_weights(kind: str, number: int) -> list[float]:
    """Weights of the current cell and of each constraint."""
    if kind == "none":
        return [1.0]
    if kind == "low":
        return [0.8, 0.2]
    if kind == "nsas" and number >= 3:
        return [0.8] + [0.2 / number] * number
    return [0.2, 0.4, 0.4]


def search_random(settings: SearchNb201RandomSettings, options: RunOptions) -> dict:
    """RandomNAS with constraints; the final cell is the best of N random ones by the chosen selection rule."""
    one_process("this search")
    check_ranges(settings)
    device = pick_device(options)
    make = constraint_maker(settings.constraint, settings.constraints, settings.structure_bug)
    weights = term_weights(settings.constraint, settings.constraints)
    train, valid, pins, note = open_halves(settings, options, device, "test")
    step_loss = live_loss if settings.constraint_gradient else constant_loss
    with open_run(options, settings, {"data": pins}) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = build_nb201_supernet(settings.channels, settings.cells, len(train.images.classes)).to(device)
        optimizer = make_sgd(model.parameters(), settings)
        epoch, position, previous, total = 0, 0, None, 0.0
        if state := run.load():
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            epoch, position, total = state["epoch"], state["position"], state["total"]
            previous = tuple(state["previous"]) if state["previous"] else None

        def snapshot(epoch: int, position: int) -> dict:
            return {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "position": position,
                "previous": list(previous) if previous else None, "total": total,
            }  # fmt: skip

        while epoch < settings.epochs:
            model.train()
            lr = cosine(epoch, settings.learning_rate, settings.learning_rate_min, settings.epochs)
            optimizer.param_groups[0]["lr"] = lr
            if position == 0:
                previous = None
            for step, (x, y) in enumerate(train.epoch(epoch, position), start=position):
                draw = drawer(seeds.numpy_rng(options.seed, "architecture", epoch, step))
                current = c201.random_code(draw)
                constraints = make(draw, current, previous)
                optimizer.zero_grad()
                loss = step_loss(model, x, y, [current, *constraints], weights)
                check_finite(loss, step=step, architecture=current)
                fill_once_used(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
                optimizer.step()
                previous, total = current, total + float(loss)
                if run.due():
                    run.save(snapshot(epoch, step + 1))
            epoch, position = epoch + 1, 0
            row = {"epoch": epoch, "lr": lr, "loss": total / len(train)}
            if settings.epoch_candidates:
                rng = seeds.numpy_rng(options.seed, "epoch", epoch)
                code, accuracy = select(model, train, valid, settings, rng, settings.epoch_candidates)
                row |= {"cell": "".join(map(str, code)), "supernet_accuracy_percent": accuracy}
            run.log(**row)
            total = 0.0
            run.save(snapshot(epoch, 0))
        rng = seeds.numpy_rng(options.seed, "select")
        code, accuracy = select(model, train, valid, settings, rng, settings.select_candidates)
        return finish(run, code, {"supernet_accuracy_percent": accuracy}, options, note, train.images.name)


def search_gdas(settings: SearchNb201GdasSettings, options: RunOptions) -> dict:
    """GDAS with constraints; the final cell is the argmax of alpha after the last epoch."""
    one_process("this search")
    check_ranges(settings)
    device = pick_device(options)
    make = constraint_maker(settings.constraint, settings.constraints, settings.structure_bug)
    weights, scale = gdas_weights(settings)
    train, valid, pins, note = open_halves(settings, options, device, "train")
    with open_run(options, settings, {"data": pins}) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = build_nb201_supernet(settings.channels, settings.cells, len(train.images.classes)).to(device)
        alphas = (1e-3 * torch.randn(c201.EDGES, c201.OPERATIONS)).to(device).requires_grad_()
        optimizer = make_sgd(model.parameters(), settings)
        arch_optimizer = torch.optim.Adam(
            [alphas], settings.arch_learning_rate, betas=(0.5, 0.999), weight_decay=settings.arch_weight_decay
        )
        epoch, position, previous, total, stale = 0, 0, None, 0.0, None
        if state := run.load():
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            arch_optimizer.load_state_dict(state["arch_optimizer"])
            with torch.no_grad():
                alphas.copy_(state["alphas"])
            epoch, position, total, stale = state["epoch"], state["position"], state["total"], state["stale"]
            previous = tuple(state["previous"]) if state["previous"] else None

        def snapshot(epoch: int, position: int) -> dict:
            return {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "alphas": alphas.detach(),
                "arch_optimizer": arch_optimizer.state_dict(), "epoch": epoch, "position": position, "total": total,
                "previous": list(previous) if previous else None, "stale": stale,
            }  # fmt: skip

        while epoch < settings.epochs:
            model.train()
            lr = cosine(epoch, settings.learning_rate, settings.learning_rate_min, settings.epochs)
            tau = nb201_temperature(epoch, settings.epochs, settings.tau_max, settings.tau_min)
            optimizer.param_groups[0]["lr"] = lr
            if position == 0:
                previous = None
            for step, (x, y) in enumerate(train.epoch(epoch, position), start=position):
                # 1. weights: constraint forwards first, then the current cell
                noise = gumbel(alphas.shape, seeds.generator(options.seed, "gumbel", epoch, step)).to(device)
                mixture, index, _ = straight_through(alphas, noise, tau)
                current = tuple(int(i) for i in index)
                draw = drawer(seeds.numpy_rng(options.seed, "constraints", epoch, step))
                constraints = make(draw, current, previous)
                optimizer.zero_grad()
                alphas.grad = None if stale is None or not settings.stale_clip else stale
                through = settings.constraint_gradient
                loss = gdas_step_loss(model, x, y, mixture, current, constraints, weights, through, scale)
                check_finite(loss, step=step, architecture=current)
                fill_once_used(optimizer)
                clipped = [*model.parameters(), alphas] if settings.stale_clip else list(model.parameters())
                nn.utils.clip_grad_norm_(clipped, settings.clip)
                optimizer.step()
                # 2. alphas: a fresh draw on a batch of the other half
                held_x, held_y = valid.drawn(epoch * len(train) + step, len(y))  # with replacement, as released
                noise = gumbel(alphas.shape, seeds.generator(options.seed, "gumbel-alpha", epoch, step)).to(device)
                mixture, index, _ = straight_through(alphas, noise, tau)
                arch_loss = nn.functional.cross_entropy(weighted_logits(model, held_x, mixture, index), held_y)
                alphas.grad = torch.autograd.grad(arch_loss, alphas)[0]
                arch_optimizer.step()
                stale = alphas.grad.clone()
                previous, total = current, total + float(loss)
                if run.due():
                    run.save(snapshot(epoch, step + 1))
            epoch, position = epoch + 1, 0
            run.log(epoch=epoch, lr=lr, tau=tau, loss=total / len(train), cell="".join(map(str, decode(alphas))))
            total = 0.0
            run.save(snapshot(epoch, 0))
        return finish(run, decode(alphas), {}, options, note, train.images.name)


def decode(alphas: Tensor) -> Code:
    """The cell of alpha [6, 5]: the largest entry of each edge, the first of equals."""
    return tuple(int(i) for i in alphas.detach().argmax(-1))


def gdas_weights(settings: SearchNb201GdasSettings) -> tuple[list[float], float]:
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


def gdas_step_loss(model, x, y, mixture, current, constraints, weights, gradient: bool, scale: float) -> Tensor:
    """Constraint forwards in train mode (no graph as released), then the current cell through its straight-through
    weights, whose gradient is multiplied by ``scale``. Returns the reported loss sum_i w_i CE(a_i), current first.
    """
    total = x.new_zeros(())
    for code, weight in zip(constraints, weights[1:]):
        with torch.set_grad_enabled(gradient):
            term = weight * nn.functional.cross_entropy(code_logits(model, x, code), y)
        if gradient:
            term.backward()
        total = total + term.detach()
    loss = nn.functional.cross_entropy(weighted_logits(model, x, mixture, current), y)
    (scale * loss).backward()
    return total + weights[0] * loss.detach()


def live_loss(model: nn.Module, x: Tensor, y: Tensor, codes: list[Code], weights: list[float]) -> Tensor:
    """sum_i w_i CE(a_i), current first, gradient through every term; each forward moves the statistics."""
    total = x.new_zeros(())
    for code, weight in zip(codes, weights):
        term = weight * nn.functional.cross_entropy(code_logits(model, x, code), y)
        term.backward()
        total = total + term.detach()
    return total


def constant_loss(model: nn.Module, x: Tensor, y: Tensor, codes: list[Code], weights: list[float]) -> Tensor:
    """The same value with gradient through the current cell only (what the DARTS-space loop does)."""
    total = x.new_zeros(())
    for number, (code, weight) in enumerate(zip(codes, weights)):
        with torch.set_grad_enabled(number == 0):
            term = weight * nn.functional.cross_entropy(code_logits(model, x, code), y)
        if number == 0:
            term.backward()
        total = total + term.detach()
    return total


@torch.no_grad()
def select(
    model, train: Batches, valid: Batches, settings: SearchNb201RandomSettings, rng, candidates: int
) -> tuple[Code, float]:
    """Best of N random cells. "released": a new random cell for every batch, so the number belongs to no cell."""
    best = None
    for _ in range(candidates):
        draw = drawer(rng)
        code = c201.random_code(draw)
        if settings.recalibrate_batches:
            renew_statistics(model, partial(code_logits, model, code=code), train, settings.recalibrate_batches)
        model.eval()
        right = count = 0
        for x, y in valid.epoch(0):
            used = c201.random_code(draw) if settings.selection == "released" else code
            right += (code_logits(model, x, used).argmax(1) == y).sum()
            count += len(y)
        accuracy = 100.0 * float(right) / count
        if best is None or accuracy > best[1]:
            best = (code, accuracy)
    assert best is not None  # at least one candidate: checked with the settings
    return best


def drawer(rng) -> Callable[[], int]:
    """Uniform operation numbers."""
    return lambda: int(rng.randint(c201.OPERATIONS))


def make_sgd(parameters, settings) -> torch.optim.Optimizer:
    """Nesterov SGD."""
    return torch.optim.SGD(
        list(parameters), settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay,
        nesterov=True,
    )  # fmt: skip


def fill_once_used(optimizer: torch.optim.Optimizer) -> None:
    """Zero-fill what had a gradient before: an operation once used keeps moving by momentum and decay (old
    zero_grad).
    """
    zero_fill_grads([p for p in optimizer.param_groups[0]["params"] if p in optimizer.state])


def open_halves(settings, options: RunOptions, device: torch.device, valid_transform: str):
    """Two halves of the training set (the benchmark's split on CIFAR-10), flip then crop, this space's constants."""
    images = open_images(settings.dataset, "train", options)
    check_pixels(settings.dataset, images.size)
    if settings.train_images:
        images = images.subset(range(min(settings.train_images, len(images))))
    first, second, origin = halves(settings.dataset, len(images), options.seed)
    limit = getattr(settings, "select_images", 0)
    if limit:
        second = second[:limit]
    digits = images.name == "digits"
    augmentation = Augmentation(NB201_MEAN, NB201_STD, pad=2 if digits else 4, flip=not digits, order="flip_crop")
    train = Batches(images.subset(first), settings.batch_size, augmentation, options.seed, device=device)
    gdas = valid_transform == "train"
    size = settings.batch_size if gdas else min(settings.select_batch_size, len(second))
    valid = Batches(
        images.subset(second),
        size,
        augmentation,
        options.seed,
        shuffle=gdas,
        augment=gdas,
        device=device,
        stream="valid",
    )
    return train, valid, images.pins, f"halves: {origin}"


def finish(run, code: Code, metrics: dict, options: RunOptions, note: str, name: str) -> dict:
    """Write the cell and, where the tables are at hand, its accuracies after 200 epochs on the data set ``name``."""
    text, dataset = to_string(code), looked_up(name)
    try:
        table = Table.open(options)
        metrics["test_accuracy_percent"] = table.lookup(code, dataset, "test")
        metrics["rank_among_15625"] = table.rank(code, dataset, "test")
        note += f"; looked up on {dataset}"
    except UserError:
        note += "; NAS-Bench-201 tables absent, no accuracy looked up"
    if dataset == "cifar10":  # the published results are looked up in release 1.0, the tables hold 1.1
        with contextlib.suppress(UserError):
            metrics["test_accuracy_v1_0_percent"] = release_1_0(options)["".join(map(str, code))]
    save_architecture(run.folder / "architecture.json", "nasbench201", text, run.origin)
    if not connected(code):
        note += "; no path leads from the cell's input to its output"
    return run.finish({"metrics": metrics, "architecture": text, "note": note})
