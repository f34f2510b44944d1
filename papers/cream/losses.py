"""Losses of search and retraining (section 3.5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def smoothed_cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.1) -> Tensor:
    """(1 - s) * nll + s * mean over classes of -log p, averaged over the batch."""
    return F.cross_entropy(logits, target, label_smoothing=smoothing)


def soft_cross_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    """mean over the batch of sum_c -q_c log softmax(z)_c."""
    return -(probabilities * F.log_softmax(logits, 1)).sum(1).mean()


def distillation_mix(value: Tensor | float, soft: Tensor, hard: Tensor) -> Tensor:
    """(m * L_kd + (2 - m) * L_ce) / 2, with the meta value m in (0, 1)."""
    return (value * soft + (2 - value) * hard) / 2


def top1_percent(logits: Tensor, target: Tensor) -> Tensor:
    """Top-1 in percent of the batch, on the device."""
    return (logits.argmax(1) == target).to(torch.float64).mean() * 100.0
