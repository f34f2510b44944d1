"""Learning rates of this paper (Method 9); epochs count from 0, lr(e) is the intent."""

from __future__ import annotations

from common.train.schedules import linear_then_slow, warm_up_factor


def imagenet_linear(epoch: int, base: float = 0.2, epochs: int = 250, batch_size: int = 256) -> float:
    """Linear to epoch ``epochs - 5``, then five epochs at a fifth of that slope; more than five epochs in all.

    base (E - 5 - e) / (E - 5) while E - e > 5, else base (E - e) / ((E - 5) 5). The warm-up of five epochs, factor
    (e + 1) / 5, applies to batches above 256 only, so the published run had none.
    """
    lr = linear_then_slow(base, epoch, epochs)
    return lr * warm_up_factor(epoch, 5) if batch_size > 256 else lr


def shifted(epoch: int, shift: bool) -> int:
    """Scheduler stepped at the start of the epoch: on torch >= 1.1 epoch e ran with lr(e + 1)."""
    return epoch + 1 if shift else epoch
