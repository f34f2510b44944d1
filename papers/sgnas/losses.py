"""Losses and schedules of the paper: smoothed cross-entropy, hardware loss, temperature and learning rates."""

from __future__ import annotations

import math

import torch

MARGIN = 0.1  # MFLOPs within which a target counts as met


def smoothed_cross_entropy(logits: torch.Tensor, target: torch.Tensor, eta: float = 0.1) -> torch.Tensor:
    """- sum_k q_k log softmax(logits)_k, mean over the batch, with q = eta / K everywhere plus 1 - eta at the target."""
    return torch.nn.functional.cross_entropy(logits, target, label_smoothing=eta)


def hardware_loss(
    generated: torch.Tensor, target: torch.Tensor | float, alpha: float = 0.0003, penalty: float = 1.2
) -> torch.Tensor:
    """L_hc: with d = F(p) - t, alpha penalty d^2 if d > 0.1; alpha d^2 if d < -0.1; else 0. Any shape."""
    d = generated - target
    weight = torch.where(d > MARGIN, alpha * penalty, torch.where(d < -MARGIN, alpha, 0.0))
    return weight * d * d


def temperature(epoch: int, start: float = 5.0, decay: float = 0.95) -> float:
    """tau of a generator epoch: start decay^epoch."""
    return start * decay**epoch


def cosine(base: float, step: int, total: int) -> float:
    """Per-step cosine: base (1 + cos(pi step / total)) / 2."""
    return base * (1 + math.cos(math.pi * step / total)) / 2


def warmup_step(
    epoch: int, base: float, decay_epochs: float, decay: float, warmup_lr: float, warmup_epochs: int
) -> float:
    """ImageNet's schedule: a linear warm-up, then base decay^floor(epoch / decay_epochs), counted from epoch 0."""
    if epoch < warmup_epochs:
        return warmup_lr + epoch * (base - warmup_lr) / warmup_epochs
    return base * decay ** (epoch // decay_epochs)
