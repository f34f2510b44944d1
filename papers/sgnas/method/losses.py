"""The paper's own loss and temperature; smoothed cross-entropy and learning-rate schedules are in ``common``."""

from __future__ import annotations

import torch

MARGIN = 0.1  # MFLOPs within which a target counts as met
PUBLISHED_RANGE = 180.0  # MFLOPs from the lowest to the highest target of the published run


def margin_of(unit: str, low: float, high: float) -> float:
    """0.1 MFLOPs as published; in another unit (milliseconds) the same share of the range of targets."""
    return MARGIN if unit == "MFLOPs" else MARGIN * (high - low) / PUBLISHED_RANGE


def hardware_loss(
    generated: torch.Tensor,
    target: torch.Tensor | float,
    alpha: float = 0.0003,
    penalty: float = 1.2,
    margin: float = MARGIN,
) -> torch.Tensor:
    """L_hc with d = F(p) - t: alpha penalty d^2 if F > t + 0.1; alpha d^2 if F < t - 0.1; else 0. Any shape."""
    target = torch.as_tensor(target, device=generated.device, dtype=generated.dtype)
    over, under = generated > target + margin, generated < target - margin  # compared so: t + 0.1 itself counts as met
    weight = torch.where(over, alpha * penalty, torch.where(under, alpha, 0.0))
    return weight * (generated - target) ** 2


def temperature(epoch: int, start: float = 5.0, decay: float = 0.95) -> float:
    """tau of a generator epoch: start decay^epoch."""
    return start * decay**epoch
