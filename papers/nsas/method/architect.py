"""The architecture step of the 2019 GDAS code, one unrolled SGD step, and the plain one of the head (Method 7).

w' = w - eta (mu m + grad_w L_train + wd w),  m the momentum buffer of SGD (0 before its first step)
grad_alpha = grad_alpha L_val(w', alpha) - eta [grad_alpha L_train(w + R v) - grad_alpha L_train(w - R v)] / (2 R),
v = grad_w' L_val,  R = 0.01 / ||v||.  All forwards in train mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from common.train.loop import mean_gradients
from papers.nsas.networks.supernet import mixed

Batch = tuple[Tensor, Tensor]
# (tensors or None, tables, batch) -> loss; tensors replace the network's own parameters and buffers
Loss = Callable[[dict[str, Tensor] | None, Sequence[Tensor], Batch], Tensor]


def table_loss(model: nn.Module, kind: str) -> Loss:
    """Cross-entropy under tables of ``kind`` raw or softmax, on the live network or on replaced tensors (no copies)."""

    def loss(tensors: dict[str, Tensor] | None, tables: Sequence[Tensor], batch: Batch) -> Tensor:
        x, y = batch
        inputs = (x, mixed(tables, kind))
        logits = model(*inputs) if tensors is None else functional_call(model, tensors, inputs)
        return nn.functional.cross_entropy(logits, y)

    return loss


def plain_gradient(loss: Loss, model: nn.Module, tables: Sequence[Tensor], valid: list[Batch]) -> list[Tensor]:
    """grad_alpha L_val(w, alpha)."""
    return mean_gradients(model, valid, lambda x, y: loss(None, tables, (x, y)), tables)[0]


def unrolled_gradient(
    loss: Loss,
    model: nn.Module,
    tables: Sequence[Tensor],
    train: list[Batch],
    valid: list[Batch],
    optimizer: torch.optim.Optimizer,
) -> list[Tensor]:
    """The gradient through one step of ``optimizer``: SGD over all weights, with its eta, mu, wd and buffers m.

    train, valid: this process's shares of both batches; every gradient is that of all shares of all processes.
    """
    eta, momentum, weight_decay = (optimizer.param_groups[0][name] for name in ("lr", "momentum", "weight_decay"))
    names, weights = zip(*model.named_parameters(), strict=True)

    def on_train(x: Tensor, y: Tensor) -> Tensor:
        return loss(None, tables, (x, y))

    ahead = {}
    for name, w, g in zip(names, weights, mean_gradients(model, train, on_train, weights)[0]):
        direction = g + weight_decay * w.detach()
        buffer = optimizer.state.get(w, {}).get("momentum_buffer")
        if buffer is not None:
            direction = direction + momentum * buffer
        ahead[name] = (w.detach() - eta * direction).requires_grad_()
    statistics = {name: b.clone() for name, b in model.named_buffers()}  # the look-ahead network keeps its own

    def on_valid(x: Tensor, y: Tensor) -> Tensor:
        return loss({**ahead, **statistics}, tables, (x, y))

    found = mean_gradients(model, valid, on_valid, [*tables, *ahead.values()])[0]
    outer, vector = found[: len(tables)], found[len(tables) :]
    radius = 0.01 / sum((v.pow(2).sum() for v in vector), vector[0].new_zeros(())).sqrt()
    with torch.no_grad():
        torch._foreach_add_(weights, [radius * v for v in vector])
    above = mean_gradients(model, train, on_train, tables)[0]
    with torch.no_grad():
        torch._foreach_sub_(weights, [2 * radius * v for v in vector])
    below = mean_gradients(model, train, on_train, tables)[0]
    with torch.no_grad():
        torch._foreach_add_(weights, [radius * v for v in vector])
    return [g - eta * (a - b) / (2 * radius) for g, a, b in zip(outer, above, below)]
