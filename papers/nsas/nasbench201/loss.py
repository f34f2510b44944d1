"""Losses of a step on NAS-Bench-201: several cells on one batch (Method 15 and 16)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.spaces.nasbench201.network import Supernet
from papers.nsas.nasbench201.constraints import Code
from papers.nsas.nasbench201.supernet import code_logits, weighted_logits


class Drawn(NamedTuple):
    """A Gumbel draw: straight-through weights [6, 5] and the cell that they switch on."""

    weights: Tensor
    code: Code


def term_weights(constraint: str, number: int) -> list[float]:
    """RandomNAS: weights of the current cell and of each constraint; ``number`` = M of NSAS.

    NSAS (M = 2), R, G, compensation: 0.2, 0.4, 0.4. NSAS (M >= 3): 0.8, then 0.2 / M each. LoW: 0.8, 0.2.
    """
    if constraint == "none":
        return [1.0]
    if constraint == "low":
        return [0.8, 0.2]
    if constraint == "nsas" and number >= 3:
        return [0.8] + [0.2 / number] * number
    return [0.2, 0.4, 0.4]


def live_loss(
    model: Supernet, x: Tensor, y: Tensor, codes: Sequence[Code], weights: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """(sum_i w_i CE(a_i), logits of the last), current first; gradient through every term, each moves statistics."""
    total, logits = x.new_zeros(()), x
    for code, weight in zip(codes, weights, strict=True):
        logits = code_logits(model, x, code)
        term = weight * nn.functional.cross_entropy(logits, y)
        term.backward()
        total = total + term.detach()
    return total, logits.detach()


def constant_loss(
    model: Supernet, x: Tensor, y: Tensor, codes: Sequence[Code], weights: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """The same value with gradient through the current cell only (what the DARTS-space loop does)."""
    total, logits = x.new_zeros(()), x
    for number, (code, weight) in enumerate(zip(codes, weights, strict=True)):
        with torch.set_grad_enabled(number == 0):
            logits = code_logits(model, x, code)
            term = weight * nn.functional.cross_entropy(logits, y)
        if number == 0:
            term.backward()
        total = total + term.detach()
    return total, logits.detach()


def gdas_weights(constraint: str, number: int, penalty: float, gradient: bool) -> tuple[list[float], float]:
    """(weights of the current cell and of each constraint in the reported loss, what multiplies the current cell's
    gradient). NSAS, R, G add numbers to the loss and subtract them again: as released their gradient keeps weight 1.
    """
    if constraint == "none":
        return [1.0], 1.0
    if constraint in ("compensation", "low"):
        weights = term_weights(constraint, 2)
        return weights, weights[0]
    count = number if constraint == "nsas" else 2
    weights = [1 - penalty] + [penalty / count] * count
    return weights, weights[0] if gradient else 1.0


def gdas_loss(
    model: Supernet, x: Tensor, y: Tensor, draw: Callable[[], Drawn], constraints: Sequence[Code],
    weights: Sequence[float], scale: float, gradient: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Constraint forwards in train mode (no graph as released), then the current cell through its straight-through
    weights, whose gradient is multiplied by ``scale``. Returns the reported loss sum_i w_i CE(a_i), weights of the
    current cell first, and the current cell's logits. draw: the current cell, with a graph of its own for every share.
    """
    total = x.new_zeros(())
    for code, weight in zip(constraints, weights[1:], strict=True):
        with torch.set_grad_enabled(gradient):
            term = weight * nn.functional.cross_entropy(code_logits(model, x, code), y)
        if gradient:
            term.backward()
        total = total + term.detach()
    drawn = draw()
    logits = weighted_logits(model, x, drawn.weights, drawn.code)
    loss = nn.functional.cross_entropy(logits, y)
    (scale * loss).backward()
    return total + weights[0] * loss.detach(), logits.detach()
