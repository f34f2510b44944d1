"""The architecture step of the 2019 GDAS code: one unrolled SGD step (section 4.3).

w' = w - eta (0.9 m + grad_w L_train + wd w)
grad_alpha = grad_alpha L_val(w', alpha) - eta [grad_alpha L_train(w + R v) - grad_alpha L_train(w - R v)] / (2 R),
v = grad_w' L_val,  R = 0.01 / ||v||.  All forwards in train mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from papers.nsas.network.networks import mixed

# (tensors or None, tables, batch) -> loss; tensors replace the network's own parameters and buffers
Loss = Callable[[dict[str, Tensor] | None, Sequence[Tensor], tuple[Tensor, Tensor]], Tensor]


def table_loss(model: nn.Module, kind: str) -> Loss:
    """Cross-entropy under tables of ``kind`` raw or softmax, on the live network or on replaced tensors (no copies)."""

    def loss(tensors: dict[str, Tensor] | None, tables: Sequence[Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        inputs = (x, mixed(tables, kind))
        logits = model(*inputs) if tensors is None else functional_call(model, tensors, inputs)
        return nn.functional.cross_entropy(logits, y)

    return loss


def first_order(loss: Loss, tables: Sequence[Tensor], valid: tuple[Tensor, Tensor]) -> list[Tensor]:
    """grad_alpha L_val(w, alpha)."""
    return list(torch.autograd.grad(loss(None, tables, valid), list(tables)))


def second_order(
    loss: Loss,
    model: nn.Module,
    tables: Sequence[Tensor],
    train: tuple[Tensor, Tensor],
    valid: tuple[Tensor, Tensor],
    eta: float,
    momentum: float,
    weight_decay: float,
    buffers: dict[nn.Parameter, Tensor],
) -> list[Tensor]:
    """The unrolled gradient; ``buffers`` are the SGD momentum buffers (absent = 0)."""
    names = [n for n, p in model.named_parameters()]
    weights = [p for _, p in model.named_parameters()]
    gradients = torch.autograd.grad(loss(None, tables, train), weights, allow_unused=True)
    ahead = {}
    for name, w, g in zip(names, weights, gradients):
        g = torch.zeros_like(w) if g is None else g
        direction = g + weight_decay * w.detach()
        if w in buffers:
            direction = direction + momentum * buffers[w]
        ahead[name] = (w.detach() - eta * direction).requires_grad_()
    statistics = {name: b.clone() for name, b in model.named_buffers()}  # the look-ahead network keeps its own
    inner = list(tables) + list(ahead.values())
    found = torch.autograd.grad(loss({**ahead, **statistics}, tables, valid), inner, allow_unused=True)
    outer = list(found[: len(tables)])
    vector = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found[len(tables) :])]
    radius = 0.01 / torch.sqrt(sum(v.pow(2).sum() for v in vector))
    with torch.no_grad():
        torch._foreach_add_(weights, [radius * v for v in vector])
    above = torch.autograd.grad(loss(None, tables, train), list(tables))
    with torch.no_grad():
        torch._foreach_sub_(weights, [2 * radius * v for v in vector])
    below = torch.autograd.grad(loss(None, tables, train), list(tables))
    with torch.no_grad():
        torch._foreach_add_(weights, [radius * v for v in vector])
    return [g - eta * (a - b) / (2 * radius) for g, a, b in zip(outer, above, below)]
