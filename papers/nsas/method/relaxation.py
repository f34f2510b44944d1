"""Gumbel sampling of the two GDAS codes: relaxed one-hot (DARTS space, Method 6), straight-through (NAS-Bench-201)."""

from __future__ import annotations

import math

import torch

FLOOR = torch.finfo(torch.float32).eps  # 1.19e-7, the clamp of torch.distributions


def darts_temperature(step: int) -> float:
    """t = 0.5 exp(-0.1 step), step counted *within the epoch*: 0.5 down to 6.7e-35 every epoch."""
    return 0.5 * math.exp(-0.1 * step)


def relaxed_one_hot(table: torch.Tensor, uniforms: torch.Tensor, temperature: float) -> torch.Tensor:
    """A draw Z [14, 8] of the relaxed one-hot categorical whose *probabilities* are the rows of ``table``.

    Rows are divided by their sum and clamped to [1.19e-7, 1 - 1.19e-7] (negative entries become the floor), then
    Z = softmax((log p + g) / t) with Gumbel noise g = -log(-log u).
    """
    probabilities = (table / table.sum(-1, keepdim=True)).clamp(FLOOR, 1 - FLOOR)
    noise = -(-(uniforms.clamp(FLOOR, 1 - FLOOR).log())).log()
    scores = (probabilities.log() + noise) / temperature
    return (scores - scores.logsumexp(-1, keepdim=True)).exp()


def straight_through(
    table: torch.Tensor, noise: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """NAS-Bench-201: (weights, index, probabilities) for tables [6, 5] and Gumbel noise of the same shape.

    probs = softmax((log_softmax(alpha) + g) / tau); index = argmax; weights = one_hot - probs.detach() + probs.
    """
    logits = (table.log_softmax(-1) + noise) / temperature
    probabilities = logits.softmax(-1)
    index = probabilities.argmax(-1)
    hard = torch.zeros_like(logits).scatter_(-1, index.unsqueeze(-1), 1.0)
    return hard - probabilities.detach() + probabilities, index, probabilities


def gumbel(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Gumbel noise -log(e), e exponential, redrawn until finite."""
    while True:
        noise = -torch.empty(shape).exponential_(generator=generator).log()
        if torch.isfinite(noise).all():
            return noise


def nb201_temperature(epoch: int, epochs: int, high: float = 10.0, low: float = 0.1) -> float:
    """Linear from 10 to 0.1 over the epochs."""
    return high - (high - low) * epoch / max(1, epochs - 1)
