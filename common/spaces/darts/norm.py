"""Batch normalisation with sharp statistics for channels-last images on the CPU.

PyTorch's CPU kernel sums a channels-last image's statistics one float32 after the other (relative error about 1e-5 at
4,096 values, which 20 layers turn into 3e-3 of the logits: more than two implementations in the usual layout differ
by). A cascaded sum is 50 times sharper and costs the same. Few values need it less and would pay for the calls, so
small images keep the plain norm, and so do the supernets that are not told otherwise (``sharpen``): EvNAS's is told,
whose fitness takes batches of 1,024 images, of which the plain sum gets the variance wrong by 5e-4. Everything else is
PyTorch's own kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

MANY = 2048
"""Values of a channel from which on its statistics are summed here."""
LARGE, PIECE = 2**22, 2**16
"""Values of an image above which it is worked through in pieces, and values of a piece (which stay in the cache)."""


def squares(rows: Tensor, mean: Tensor) -> Tensor:
    """sum over rows of (rows - mean)^2, [C]; of a large image piece by piece, so that no second copy of it is made."""
    if rows.numel() <= LARGE:
        return (rows - mean).square_().sum(0)
    pieces = [(part - mean).square_().sum(0) for part in rows.split(max(1, PIECE // rows.shape[1]))]
    return torch.stack(pieces).sum(0)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias by batch statistics; also returns mean and (biased) var."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
        rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])  # a view: channels are last in memory
        mean = rows.mean(0)
        var = squares(rows, mean) / len(rows)
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt())
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        return functional.batch_norm(x, mean, var, weight, bias, False, 0.0, eps), mean, var

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, mean, deviation = ctx.saved_tensors
        wanted = [*ctx.needs_input_grad[:3]]
        found = torch.ops.aten.native_batch_norm_backward(
            gradient.contiguous(memory_format=torch.channels_last), x, weight, None, None, mean, deviation, True,
            ctx.eps, wanted,
        )  # fmt: skip
        return (*found, None)


def applies(x: Tensor) -> bool:
    """Whether statistics of ``x`` are better summed here: float32 images of many values, channels last, on the CPU."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.dim() == 4
        and x.shape[1] > 1
        and x.numel() >= MANY * x.shape[1]
        and x.is_contiguous(memory_format=torch.channels_last)
        and not x.is_contiguous()
    )


class BatchNorm2d(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d``, sharper where ``applies(x)``; the same parameters, buffers and results."""

    def forward(self, x: Tensor) -> Tensor:
        """float32 [B, C, H, W] -> the same shape."""
        if not ((self.training or self.running_mean is None) and applies(x)):
            return super().forward(x)
        out, mean, var = _Normalise.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            count = x.numel() // x.shape[1]
            self.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
            self.running_var.lerp_(var.mul_(count / (count - 1)), momentum)  # type: ignore[union-attr]
        return out


def sums_sharply(module: nn.Module, x: Tensor) -> bool:
    """Whether ``module`` is a norm that sums the statistics of ``x`` here."""
    return isinstance(module, BatchNorm2d) and applies(x)


def normalised(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x without scale and shift normalised by its own statistics, their mean, their unbiased variance)."""
    out, mean, var = _Normalise.apply(x, None, None, eps)  # type: ignore[no-untyped-call]
    count = x.numel() // x.shape[1]
    return out, mean, var * (count / (count - 1))


def sharpen(network: nn.Module) -> None:
    """Make every batch norm of ``network`` a sharp one, in place; parameters, buffers and names stay."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = BatchNorm2d
