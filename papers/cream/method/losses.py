"""What is Cream's own among the losses; the rest is in ``common.train.losses``."""

from __future__ import annotations

from torch import Tensor


def distillation_mix(value: Tensor | float, soft: Tensor, hard: Tensor) -> Tensor:
    """(m * L_kd + (2 - m) * L_ce) / 2, with the meta value m in (0, 1)."""
    return (value * soft + (2 - value) * hard) / 2
