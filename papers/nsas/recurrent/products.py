"""Two exact savings in recurrent networks: weight gradients in one product, a loss without stored log-probabilities.

Both give the values and gradients of the plain form up to the order of summation.
- Autograd adds one outer product [H, B] [B, N] per time step to the gradient of a recurrent matrix, sum_t s_t' d_t, and
  writes H x N numbers each time.  :func:`deferred` notes (s_t, d_t) on the way back and multiplies once:
  [s_1 ... s_T]' [d_1 ... d_T].
- With V words, log-softmax and its gradient write the T B x V table four times.  :func:`linear_nll` turns the table of
  logits into e = exp(z - max) in place; loss = mean(log sum(e) - (z_target - max)), and the gradient to the logits is
  (e / sum(e) - onehot) / (T B), whose scale is moved to the small side of the products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Product = Callable[..., Tensor]


def deferred(weight: Tensor) -> Product:
    """``product(state, base=None)`` = state @ weight (+ base) for state [B, H], weight [H, N]."""
    if not (torch.is_grad_enabled() and weight.requires_grad):
        return lambda state, base=None: state @ weight if base is None else torch.addmm(base, state, weight)
    noted: list[tuple[Tensor, Tensor]] = []
    gate = _Gate.apply(weight, noted)
    return lambda state, base=None: _Product.apply(state, gate, base, noted)


class _Product(torch.autograd.Function):
    """state @ weight + base; what the weight's gradient needs is noted for :class:`_Gate`."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, weight: Tensor, base: Tensor | None, noted: list) -> Tensor:
        ctx.save_for_backward(state, weight)
        ctx.noted = noted
        return state @ weight if base is None else torch.addmm(base, state, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:  # type: ignore[override]
        state, weight = ctx.saved_tensors
        ctx.noted.append((state, grad))
        before = grad @ weight.t() if ctx.needs_input_grad[0] else None
        return before, None, grad if ctx.needs_input_grad[2] else None, None


class _Gate(torch.autograd.Function):
    """The weight as it is; on the way back, run once every product of the chunk has noted its part, all of them."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, noted: list) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.noted = noted
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None) -> tuple:  # type: ignore[override]
        if not ctx.noted:
            return grad, None
        states, grads = zip(*ctx.noted)
        ctx.noted.clear()
        total = torch.cat(states).t() @ torch.cat(grads)
        return total if grad is None else total + grad, None


def linear_nll(output: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood of ``targets`` [N] under softmax(output [N, H] @ weight [V, H]' + bias [V])."""
    return _LinearNll.apply(output, weight, bias, targets)


class _LinearNll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        table = torch.addmm(bias, output, weight.t())  # logits, then exp(logits - max)
        table.sub_(table.amax(1, keepdim=True))
        places = targets.view(-1, 1)
        chosen = table.gather(1, places)
        total = table.exp_().sum(1, keepdim=True)
        if any(ctx.needs_input_grad):
            # e - sum(e) onehot: the gradient to the logits, each row times N sum(e)
            ctx.save_for_backward(output, weight, table.scatter_add_(1, places, -total), total)
        return (total.log() - chosen).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:  # type: ignore[override]
        output, weight, table, total = ctx.saved_tensors
        scale = grad / (total * len(total))  # [N, 1]
        needs = ctx.needs_input_grad
        return (
            (table @ weight).mul_(scale) if needs[0] else None,
            table.t() @ (output * scale) if needs[1] else None,
            (scale.t() @ table).view(-1) if needs[2] else None,
            None,
        )
