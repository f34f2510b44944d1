"""What supernet and derived network have in common (Method 2): initialisation, activations, small modules."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

BN_EPS = 1e-5
SE_REDUCTION = 4
ACTIVATIONS = ("relu", "hswish")


def activate(x: torch.Tensor, name: str) -> torch.Tensor:
    """relu: min(max(x, 0), 6). hswish: x relu6(x + 3) / 6. x is the output of a normalisation or folded convolution,
    which nothing else reads: the first works in place.
    """
    return functional.relu6(x, inplace=True) if name == "relu" else functional.hardswish(x)


def relu6_(x: torch.Tensor) -> torch.Tensor:
    """ReLU6 in place, for outputs that nothing else reads."""
    return functional.relu6(x, inplace=True)


def init_conv(weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Normal, std = sqrt(2 / (k k out_channels)). The group count is not divided out, so depthwise kernels start small.

    weight [out, in, k, k], filled in place on the CPU from ``generator``.
    """
    out, _, height, width = weight.shape
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator) * math.sqrt(2 / (height * width * out)))
    return weight


def init_module(module: nn.Module, generator: torch.Generator) -> None:
    """The authors' initialisation of every convolution and linear layer below ``module``, in module order."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            init_conv(part.weight, generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear):
            with torch.no_grad():
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator) * 0.01)
            nn.init.zeros_(part.bias)


class ConvBN(nn.Module):
    """Convolution without bias, batch normalisation; names as in the authors' checkpoints."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, momentum: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
        self.bn: Any = nn.BatchNorm2d(out, BN_EPS, momentum)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class SqueezeExcite(nn.Module):
    """Pool, 1x1 to a quarter, ReLU, 1x1 back, hard sigmoid relu6(v + 3) / 6, multiply."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze_conv = nn.Conv2d(channels, channels // SE_REDUCTION, 1)
        self.excite_conv = nn.Conv2d(channels // SE_REDUCTION, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        return x * functional.hardsigmoid(self.excite_conv(functional.relu(self.squeeze_conv(pooled))))
