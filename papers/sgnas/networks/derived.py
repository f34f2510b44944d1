"""The derived network: built from kernel lists, trained from scratch (Method 2).

Sub-blocks with equal kernels are merged into one depthwise convolution: the hidden channels of a block are kept in the
order of kernel sizes. The authors keep them in sub-block order, each with its own convolution (``published_keys``).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from common.train.batchnorm import fold as fold_bn
from common.train.batchnorm import scale_and_shift
from papers.sgnas.networks.architectures import (
    FIRST_CHANNELS,
    KERNEL_SIZES,
    LAST_CHANNELS,
    STEM_CHANNELS,
    Kernels,
    Macro,
)
from papers.sgnas.networks.layers import BN_EPS, ConvBN, SqueezeExcite, activate, init_conv, init_module

DROPOUT = 0.2


class Depthwise(nn.Module):
    """Depthwise convolutions of consecutive channel groups, one per kernel size in use, then one normalisation."""

    def __init__(self, channels: int, kernels: list[int], stride: int, momentum: float) -> None:
        super().__init__()
        self.channels = channels
        self.widths = [channels * kernels.count(k) for k in KERNEL_SIZES if k in kernels]
        self.convs: Any = nn.ModuleDict(
            {
                f"k{k}": nn.Conv2d(width, width, k, stride, k // 2, groups=width, bias=False)
                for k, width in zip((k for k in KERNEL_SIZES if k in kernels), self.widths)
            }
        )
        self.bn: Any = nn.BatchNorm2d(channels * len(kernels), BN_EPS, momentum)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """The authors' rule for each sub-block's own convolution, whose width is ``channels``."""
        for conv in self.convs.values():
            for part in conv.weight.data.split(self.channels):
                init_conv(part, generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [conv(part) for conv, part in zip(self.convs.values(), x.split(self.widths, 1))]
        return self.bn(parts[0] if len(parts) == 1 else torch.cat(parts, 1))


class Block(nn.Module):
    """Inverted bottleneck: 1x1 expansion (absent for expansion 1), depthwise groups, [SE], 1x1 projection, residual."""

    def __init__(
        self, channels: int, out: int, kernels: list[int], stride: int, se: bool, activation: str, momentum: float
    ) -> None:
        super().__init__()
        hidden = channels * len(kernels)
        self.activation = activation
        self.point_wise = ConvBN(channels, hidden, 1, 1, momentum) if len(kernels) > 1 else None
        self.depthwise = Depthwise(channels, kernels, stride, momentum)
        self.se = SqueezeExcite(hidden) if se else None
        self.point_wise_1 = ConvBN(hidden, out, 1, 1, momentum)
        self.residual = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.point_wise is None or len(self.depthwise.widths) == 1 or isinstance(self.depthwise.bn, nn.Identity):
            y = x if self.point_wise is None else activate(self.point_wise(x), self.activation)
            y = activate(self.depthwise(y), self.activation)
        else:
            y = self._by_kernel(x)
        if self.se is not None:
            y = self.se(y)
        y = self.point_wise_1(y)
        return x + y if self.residual else y

    def _by_kernel(self, x: torch.Tensor) -> torch.Tensor:
        """Expansion and depthwise part, one kernel size after the other: weights are sliced instead of activations."""
        assert self.point_wise is not None
        expand, norm = self.point_wise.conv.weight, self.depthwise.bn
        parts, start = [], 0
        for conv, width in zip(self.depthwise.convs.values(), self.depthwise.widths):
            rows = slice(start, start + width)
            start += width
            y = _normalise(self.point_wise.bn, functional.conv2d(x, expand[rows]), rows)
            y = _normalise(norm, conv(activate(y, self.activation)), rows)
            parts.append(activate(y, self.activation))
        if self.training:
            self.point_wise.bn.num_batches_tracked += 1
            norm.num_batches_tracked += 1
        return torch.cat(parts, 1)


def _normalise(bn: Any, x: torch.Tensor, rows: slice) -> torch.Tensor:
    """Part of a batch normalisation: channels ``rows`` of it, whose statistics are updated in training."""
    mean, var = bn.running_mean[rows], bn.running_var[rows]
    return functional.batch_norm(x, mean, var, bn.weight[rows], bn.bias[rows], bn.training, bn.momentum, bn.eps)


class Network(nn.Module):
    """Images [N, 3, H, W] -> logits [N, classes].

    kernels: per layer the kernel sizes of its sub-blocks. se, activation: squeeze-excite and relu | hswish everywhere.
    momentum: of batch normalisation (0.1 in search and on CIFAR, 0.001 on ImageNet).
    """

    def __init__(
        self,
        macro: Macro,
        kernels: Kernels,
        classes: int,
        se: bool = False,
        activation: str = "relu",
        momentum: float = 0.1,
        dropout: float = DROPOUT,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.macro, self.kernels, self.activation, self.dropout = macro, kernels, activation, dropout
        self.first = ConvBN(3, STEM_CHANNELS, 3, macro.stem_stride, momentum)
        self.first_mb = Block(STEM_CHANNELS, FIRST_CHANNELS, [3], 1, se, activation, momentum)
        blocks = [
            Block(channels, out, row, stride, se, activation, momentum)
            for channels, (out, stride), row in zip(macro.in_channels, macro.layers, kernels)
        ]
        self.stages: Any = nn.ModuleList(blocks)
        self.last_stage = ConvBN(macro.layers[-1][0], LAST_CHANNELS, 1, 1, momentum)
        self.classifier = nn.Linear(LAST_CHANNELS, classes)
        generator = generator or torch.Generator().manual_seed(0)
        init_module(self, generator)
        for block in blocks:
            block.depthwise.reset_parameters(generator)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = activate(self.first(x.contiguous(memory_format=torch.channels_last)), self.activation)
        x = self.first_mb(x)
        for stage in self.stages:
            x = stage(x)
        x = activate(self.last_stage(x), self.activation).mean((2, 3))
        return self.classifier(functional.dropout(x, self.dropout, self.training))


@torch.no_grad()
def fold(network: nn.Module) -> nn.Module:
    """An evaluation-only copy with every normalisation folded into the convolution in front of it (same outputs)."""
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for module in folded.modules():
        if isinstance(module, ConvBN):
            _replace(module.conv, *fold_bn(module.conv.weight, module.bn))
            module.bn = nn.Identity()
        elif isinstance(module, Depthwise):
            scale, _ = scale_and_shift(module.bn)
            # not its second: another order of the product, in whose last bit recorded searches would differ
            shift = module.bn.bias - module.bn.running_mean * module.bn.weight * torch.rsqrt(
                module.bn.running_var + module.bn.eps
            )
            for conv, s, b in zip(module.convs.values(), scale.split(module.widths), shift.split(module.widths)):
                _replace(conv, conv.weight * s.view(-1, 1, 1, 1), b)
            module.bn = nn.Identity()
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _replace(conv: nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor) -> None:
    conv.weight, conv.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
