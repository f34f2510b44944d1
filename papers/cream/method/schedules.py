"""Learning rates of search and training, and the pace of the meta updates (Method 9 and 11). No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common.errors import UserError
from common.train import schedules
from papers.cream.settings import Recipe, Search

IMAGENET = 1_281_167  # training images
RELEASED_IMAGES, RELEASED_EVERY, RELEASED_ITERATIONS = 1_280_000, 200, 1251
WORTH_SAYING = 0.05  # part of the untrained weights in the average


@dataclass(frozen=True)
class Pace:
    """iterations: of an epoch; total: T, the iterations until the rate is 0; update_every: 0 = no meta updates."""

    iterations: int
    total: float
    update_every: int

    def update_due(self, step: int) -> bool:
        """Whether iteration ``step`` of an epoch has a meta update: every ``update_every``, not the first."""
        return bool(self.update_every and step and step % self.update_every == 0)

    def meta_updates(self, settings: Search) -> int:
        """Meta updates of the whole search, provided that the board holds a path by then."""
        epochs = max(0, settings.epochs - settings.start_epoch - 1)
        return epochs * ((self.iterations - 1) // self.update_every) if self.update_every else 0


def pace_of(settings: Search, images: int) -> Pace:
    """The pace of a search on ``images`` training images.

    ImageNet, as released: the rate falls to 0 over 1,280,000 images an epoch (the set has 1,281,167), and a meta update
    comes every 200 of 1,251 iterations. On any other set the rate falls to 0 over the iterations there are, and meta
    updates come as often an epoch as they do there. Raises UserError where no meta update would ever be made.
    """
    iterations = images // settings.batch_size
    whole = images == IMAGENET
    nominal = settings.schedule_images or (RELEASED_IMAGES if whole else iterations * settings.batch_size)
    total = settings.epochs * nominal / settings.batch_size
    if settings.method == "random" or settings.pick == "top1":
        return Pace(iterations, total, 0)
    every = settings.update_every
    if not every:
        as_often = max(1, round(RELEASED_EVERY * iterations / RELEASED_ITERATIONS))
        every = RELEASED_EVERY if whole and iterations > RELEASED_EVERY else as_often
    if every >= iterations:
        remedy = "lower --batch-size" if iterations < 2 else "lower --update-every (0: as often as on ImageNet)"
        raise UserError(
            f"no meta update would be made: they come every {every} iterations inside an epoch (not at its first), and "
            f"an epoch of {images} images has {iterations}; {remedy}"
        )
    return Pace(iterations, total, every)


def search_lrs(settings: Search, iteration: int, total: float) -> list[float]:
    """Rates of the optimiser's four groups at a 0-based iteration t of the search: base (1 - t / T) until T, then 0.

    ``lr_rule`` released: base (lr - t / T), the same at lr = 1 only (negative late in the run when lr < 1).
    """
    start = settings.lr if settings.lr_rule == "released" else 1.0
    factor = 0.0 if iteration > total else start - iteration / total
    return [settings.lr * factor, settings.lr * factor, settings.meta_lr * factor, settings.meta_lr * factor]


def training_lr(settings: Recipe, name: str) -> tuple[Callable[[int], float], int]:
    """(rate of a 0-based epoch e, number of epochs) of the training of the network of that name.

    cosine: lr_min + (lr - lr_min) (1 + cos(pi e / epochs)) / 2, then ``cooldown`` epochs at the minimum;
    step: lr decay_rate^floor(e / decay_epochs).
    The first ``warmup_epochs`` rise linearly from ``warmup_lr`` to lr without shifting the schedule behind them.
    ``none`` is the generic retrain.yaml: constant, no warm-up.
    """
    kind = settings.schedule_of(name)

    def rate(epoch: int) -> float:
        if kind == "none":
            return settings.lr
        if kind == "cosine":
            main = schedules.cosine_then_minimum(settings.lr, settings.lr_min, epoch, settings.epochs)
        else:
            main = schedules.step_decay(settings.lr, settings.decay_rate, epoch, settings.decay_epochs)
        return schedules.warm_up(settings.warmup_lr, settings.lr, epoch, settings.warmup_epochs, main)

    return rate, settings.epochs + (settings.cooldown if kind == "cosine" else 0)


def untrained_share(settings: Recipe, steps: int) -> str:
    """A line about an average that still holds much of the untrained weights when the training ends, else ""."""
    held = settings.ema_decay**steps
    if held < WORTH_SAYING:
        return ""
    return (
        f"note: after {steps} steps the averaged weights still hold {100 * held:.0f} % of the untrained ones; lower "
        f"--ema-decay ({settings.ema_decay:g}), which is meant for longer trainings"
    )
