"""The retraining recipe's learning rate: constant within an epoch, warm-up, cool-down. No torch here."""

from __future__ import annotations

from collections.abc import Callable

from common.train import schedules
from papers.cream.settings import Recipe

WORTH_SAYING = 0.05


def learning_rate(settings: Recipe, name: str) -> tuple[Callable[[int], float], int]:
    """(rate of a 0-based epoch, number of epochs).

    cosine: min + (lr - min)(1 + cos(pi e / E)) / 2, then ``cooldown`` epochs at the minimum;
    step: lr rate^floor(e / every).
    The first ``warmup_epochs`` rise linearly from ``warmup_lr`` to lr without shifting the schedule behind them.
    ``none`` is the generic retrain.yaml: constant, no warm-up.
    """
    kind = settings.schedule_of(name)

    def main(epoch: int) -> float:
        if kind == "cosine":
            return schedules.cosine_then_minimum(settings.lr, settings.lr_min, epoch, settings.epochs)
        return schedules.step_decay(settings.lr, settings.decay_rate, epoch, settings.decay_epochs)

    if kind == "none":
        return (lambda epoch: settings.lr), settings.epochs
    rate = lambda epoch: schedules.warm_up(  # noqa: E731
        settings.warmup_lr, settings.lr, epoch, settings.warmup_epochs, main(epoch)
    )
    return rate, settings.epochs + (settings.cooldown if kind == "cosine" else 0)


def initial_share(settings: Recipe, steps: int) -> str:
    """A line about an average that still holds much of the untrained weights when the training ends, else ""."""
    held = settings.ema_decay**steps
    if held < WORTH_SAYING:
        return ""
    return (
        f"note: after {steps} steps the averaged weights still hold {100 * held:.0f} % of the untrained ones; lower "
        f"--ema-decay ({settings.ema_decay:g}), which is meant for longer trainings"
    )
