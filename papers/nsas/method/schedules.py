"""Learning rates and drop-path of this paper (sections 4.1, 6.2, 7); epochs count from 0, lr(e) is the intent."""

from __future__ import annotations

import math


def cosine(epoch: int, base: float, minimum: float, epochs: int) -> float:
    """minimum + (base - minimum) (1 + cos(pi e / E)) / 2, constant within an epoch."""
    return minimum + (base - minimum) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def step_decay(epoch: int, base: float = 0.1, gamma: float = 0.97) -> float:
    """ImageNet "StepLR": base * 0.97^e."""
    return base * gamma**epoch


def imagenet_linear(epoch: int, base: float = 0.2, epochs: int = 250, batch_size: int = 256) -> float:
    """Linear to epoch ``epochs - 5``, then five epochs at a fifth of that slope; more than five epochs in all.

    base (E - 5 - e)/(E - 5) while E - e > 5, else base (E - e)/((E - 5) 5).  The warm-up of five epochs,
    factor (e + 1)/5, applies only to batches above 256, so the published run had none.
    """
    lr = (
        base * (epochs - 5 - epoch) / (epochs - 5)
        if epochs - epoch > 5
        else base * (epochs - epoch) / ((epochs - 5) * 5)
    )
    return lr * (epoch + 1) / 5 if epoch < 5 and batch_size > 256 else lr


def drop_path(epoch: int, probability: float, epochs: int) -> float:
    """p e / E: from 0 towards p."""
    return probability * epoch / epochs


def shifted(epoch: int, shift: bool) -> int:
    """Scheduler stepped at the start of the epoch: on torch >= 1.1 epoch e ran with lr(e + 1) (section 7.4)."""
    return epoch + 1 if shift else epoch


def learning_rate(schedule: str, epoch: int, base: float, minimum: float, epochs: int, batch_size: int) -> float:
    """The lr of ``epoch`` under schedule "cosine", "step" or "linear"."""
    if schedule == "cosine":
        return cosine(epoch, base, minimum, epochs)
    if schedule == "step":
        return step_decay(epoch, base)
    return imagenet_linear(epoch, base, epochs, batch_size)
