"""Learning-rate schedules as pure functions of an epoch or step; closed forms, no recursion, no state.

Which argument (epoch or step), which offset and which warm-up a run used is the paper's business.
"""

from __future__ import annotations

import math


def cosine(base: float, minimum: float, epoch: float, epochs: float) -> float:
    """minimum + (base - minimum) (1 + cos(pi epoch / epochs)) / 2; ``epochs`` = 0 gives ``base``."""
    if epochs == 0:
        return base
    return minimum + (base - minimum) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def cosine_then_minimum(base: float, minimum: float, epoch: float, epochs: float) -> float:
    """``cosine`` up to ``epochs``, the minimum afterwards (cool-down)."""
    return cosine(base, minimum, epoch, epochs) if epoch < epochs else minimum


def linear(base: float, step: float, steps: float) -> float:
    """base (1 - step / steps), 0 after the end."""
    return base * (1 - step / steps) if step <= steps else 0.0


def linear_then_slow(base: float, epoch: int, epochs: int, last: int = 5) -> float:
    """ImageNet recipe of P-DARTS: linear to 0 over all but the last epochs, those at a ``last``-th of the slope.

    lr(e) = base (T - l - e) / (T - l) while T - e > l, else base (T - e) / ((T - l) l); T = epochs, l = last.
    """
    body = epochs - last
    if body <= 0:
        raise ValueError(f"needs more than {last} epochs, not {epochs}")
    return base * (body - epoch) / body if epochs - epoch > last else base * (epochs - epoch) / (body * last)


def exponential(base: float, gamma: float, epoch: float) -> float:
    """base gamma^epoch."""
    return base * gamma**epoch


def step_decay(base: float, gamma: float, epoch: float, every: float) -> float:
    """base gamma^floor(epoch / every)."""
    return base * gamma ** math.floor(epoch / every)


def warm_up_factor(epoch: int, epochs: int) -> float:
    """(epoch + 1) / epochs during the first epochs, then 1 (the DARTS family's warm-up)."""
    return (epoch + 1) / epochs if epoch < epochs else 1.0


def warm_up(start: float, base: float, epoch: float, epochs: float, after: float) -> float:
    """start + epoch (base - start) / epochs in the warm-up, then ``after`` (timm: the main schedule has no offset)."""
    return start + epoch * (base - start) / epochs if epoch < epochs else after
