"""Optimisers and weight averages that two or more papers use (Cream, SGNAS), and the authors' gradient clearing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class RMSpropTF(Optimizer):
    """RMSprop as TensorFlow has it: s starts at 1, epsilon inside the root, learning rate inside the momentum buffer.

    g += wd w;  s += (1 - alpha)(g^2 - s);  b = momentum b + lr g / sqrt(s + eps);  w -= b.
    Parameters without a gradient are left alone. Runs on whole lists of tensors at once.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.9,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if not self.state[p]:
                    self.state[p]["square_avg"] = torch.ones_like(p)
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            squares = [self.state[p]["square_avg"] for p in params]
            buffers = [self.state[p]["momentum_buffer"] for p in params]
            grads: Any = [p.grad for p in params]
            if group["weight_decay"]:
                grads = torch._foreach_add(grads, params, alpha=group["weight_decay"])
            torch._foreach_lerp_(squares, torch._foreach_mul(grads, grads), 1 - group["alpha"])
            roots = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(roots)
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_addcdiv_(buffers, grads, roots, value=group["lr"])
            torch._foreach_sub_(params, buffers)
        return loss


def without_decay(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups: 1-d tensors and biases without weight decay, the rest with it (timm's rule)."""
    free: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (free if parameter.ndim <= 1 or name.endswith(".bias") else rest).append(parameter)
    return [{"params": free, "weight_decay": 0.0}, {"params": rest, "weight_decay": weight_decay}]


class EMA:
    """Exponential moving average of every entry of a model's state dict, batch-norm statistics included.

    e = d e + (1 - d) w after each step, no warm-up; integer counters are averaged and truncated, as released.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values: dict[str, Tensor] = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model's present values."""
        averages: list[Tensor] = []
        current: list[Tensor] = []
        for name, value in model.state_dict().items():
            average = self.values[name]
            if average.is_floating_point():
                averages.append(average)
                current.append(value.detach().to(average.device))
            else:  # e.g. num_batches_tracked: computed in float32 and truncated
                average.copy_((average * self.decay + value.to(average.device) * (1 - self.decay)).to(average.dtype))
        torch._foreach_lerp_(averages, current, 1 - self.decay)

    def copy_to(self, model: nn.Module) -> None:
        """Load the averages into a model of the same architecture."""
        model.load_state_dict(self.values)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages."""
        return self.values

    def load_state_dict(self, values: dict[str, Tensor]) -> None:
        """Continue from saved averages."""
        self.values = {k: values[k].to(v.device).clone() for k, v in self.values.items()}


def zero_fill_grads(params: Iterable[nn.Parameter]) -> None:
    """Give every parameter without a gradient one of zeros, so that momentum and weight decay keep moving it.

    Call it after the backward pass, before the step. Up to torch 1.x ``zero_grad`` filled zeros; since 2.0 it sets None
    and an operation outside the sampled path stands still. In the authors' versions a parameter that was never used had
    no gradient yet: ``optimizer.zero_grad(set_to_none=False)`` alone reproduces that point as well.
    """
    for parameter in params:
        if parameter.grad is None and parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)


def trained_by(optimizer: Optimizer) -> list[nn.Parameter]:
    """All parameters of an optimiser, in order."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def clip(params: Iterable[nn.Parameter], norm: float) -> Tensor | None:
    """Scale gradients to a total norm of at most ``norm`` (0: off); returns the norm before, on the device."""
    return nn.utils.clip_grad_norm_(list(params), norm) if norm > 0 else None
