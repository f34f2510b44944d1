"""Supernet training (Method 4): four paths per batch, gradients added up, one SGD step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from common.run.device import onto
from common.train.batchnorm import PartStatistics, average
from common.train.losses import label_smoothing_cross_entropy as smoothed_cross_entropy
from papers.sgnas.networks.architectures import KERNEL_SIZES, SKIP, SUB_BLOCKS, Ops
from papers.sgnas.networks.supernet import Supernet


def zero_gradients(supernet: Supernet) -> None:
    """Fill every gradient with zeros: no parameter is without one, whatever the paths use."""
    for parameter in supernet.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients: list[Any] = [parameter.grad for parameter in supernet.parameters()]
    torch._foreach_zero_(gradients)


def supernet_gradients(
    supernet: Supernet,
    x: torch.Tensor,
    y: torch.Tensor,
    paths: Sequence[Ops],
    smoothing: float = 0.1,
    sizes: Sequence[int] = (),
) -> list[torch.Tensor]:
    """Fresh gradients, summed over the paths (no division by their number); returns the detached losses.

    sizes: images of the shares that x is cut into, each normalised by itself (none: one share). The gradient is that of
    the mean loss over the images of x; running statistics become the mean over the shares of what each made of them.
    An empty share, and x without images, add nothing.
    """
    zero_gradients(supernet)
    losses = [torch.zeros((), device=x.device) for _ in paths]
    sizes = sizes or (len(y),)
    together = PartStatistics(supernet) if len(sizes) > 1 else None
    for images, labels in zip(x.split(list(sizes)), y.split(list(sizes)), strict=True):
        for number, path in enumerate(paths if len(labels) else ()):
            loss = smoothed_cross_entropy(supernet(images, path), labels, smoothing) * (len(labels) / len(y))
            loss.backward()
            losses[number] += loss.detach()
        if together is not None:
            together.collect(len(labels))
    if together is None:
        average(supernet, len(y))
    else:
        together.finish()
    return losses


class PathSGD:
    """SGD with momentum and weight decay that knows which operations the step's paths used.

    The original holds each sub-block's operations as parameters of their own. ``zeros`` (what made the published
    result: PyTorch before 2.0 filled gradients with zeros): an operation used at least once is moved by decay and
    momentum in every later step; before its first use it stays as it is. ``none``: an operation is moved only in
    steps that use it.
    """

    def __init__(self, supernet: Supernet, momentum: float, weight_decay: float, zero_grad: str = "zeros") -> None:
        self.supernet, self.momentum, self.weight_decay, self.zero_grad = supernet, momentum, weight_decay, zero_grad
        self.parameters: list[Any] = list(supernet.parameters())
        self.buffers = [torch.zeros_like(p) for p in self.parameters]
        layers = len(supernet.stages)
        # used[l, k, i]: sub-block i ran kernel k; switched[l, n]: normalisation n (the only one: 0) was used
        self.used = torch.zeros(layers, len(KERNEL_SIZES), SUB_BLOCKS, dtype=torch.bool)
        self.switched = torch.zeros(layers, SUB_BLOCKS if supernet.switchable_bn else 1, dtype=torch.bool)
        position = {id(p): n for n, p in enumerate(self.parameters)}
        self.parts = []  # (parameter number, layer, kernel number, or -1 for the switchable normalisation)
        for layer, stage in enumerate(supernet.stages):
            for k, (weight, bn) in enumerate(zip(stage.depthwise, stage.depthwise_bn)):
                self.parts += [(position[id(p)], layer, k) for p in (weight, bn.weight, bn.bias)]
            bn = stage.switchable_bn
            self.parts += [(position[id(p)], layer, -1) for p in (bn.weight, bn.bias)]

    def _mark(self, paths: Sequence[Ops]) -> tuple[torch.Tensor, torch.Tensor]:
        used, switched = torch.zeros_like(self.used), torch.zeros_like(self.switched)
        ops = torch.as_tensor(paths)  # [paths, L, 6]
        for k in range(len(KERNEL_SIZES)):
            used[:, k] = (ops == k).any(0)
        norms = (ops == SKIP).sum(-1)  # [paths, L]
        for numbers in norms if self.supernet.switchable_bn else torch.zeros_like(norms):
            switched[torch.arange(len(numbers)), numbers] = True
        return used, switched

    def _masks(self, used: torch.Tensor, switched: torch.Tensor) -> dict[int, torch.Tensor]:
        """Number of a parameter of which only parts move -> 1 for these, 0 for the rest; a GPU gets all together."""
        moving = {n: switched[layer] if k < 0 else used[layer, k] for n, layer, k in self.parts}
        rows = {
            n: row.repeat_interleave(len(self.parameters[n]) // len(row)) for n, row in moving.items() if not row.all()
        }
        if not rows:
            return {}
        flat = onto(self.parameters[0].device, torch.cat([*rows.values()]).to(self.parameters[0].dtype))
        masks = zip(rows, flat.split([len(row) for row in rows.values()]))
        return {n: mask.view(-1, *[1] * (self.parameters[n].dim() - 1)) for n, mask in masks}

    @torch.no_grad()
    def step(self, lr: float, paths: Sequence[Ops]) -> None:
        """g += wd w; m = momentum m + g; w -= lr m, for the operations that move in this step."""
        used, switched = self._mark(paths)
        self.used |= used
        self.switched |= switched
        zero = self.zero_grad == "zeros"
        if zero:
            used, switched = self.used, self.switched
        gradients: list[Any] = [p.grad for p in self.parameters]
        torch._foreach_add_(gradients, self.parameters, alpha=self.weight_decay)
        masks = self._masks(used, switched)
        kept = {number: self.buffers[number].clone() for number in masks} if not zero else {}
        torch._foreach_mul_(self.buffers, self.momentum)
        if masks:
            torch._foreach_mul_([gradients[n] for n in masks], [*masks.values()])
        torch._foreach_add_(self.buffers, gradients)
        if not zero:  # parts that do not move keep their momentum for later and take no step
            for number, mask in masks.items():
                self.buffers[number].copy_(torch.where(mask.bool(), self.buffers[number], kept[number]))
            moves = [buffer * masks[n] if n in masks else buffer for n, buffer in enumerate(self.buffers)]
            torch._foreach_add_(self.parameters, moves, alpha=-lr)
        else:
            torch._foreach_add_(self.parameters, self.buffers, alpha=-lr)

    def state_dict(self) -> dict[str, Any]:
        """Momenta, and what was used so far."""
        return {"buffers": self.buffers, "used": self.used, "switched": self.switched}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()``."""
        for mine, stored in zip(self.buffers, state["buffers"], strict=True):
            mine.copy_(stored)
        self.used, self.switched = state["used"].clone(), state["switched"].clone()
