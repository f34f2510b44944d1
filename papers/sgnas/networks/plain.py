"""The derived network in the authors' form (Method 2): every sub-block a convolution of its own, every layer a module.

Its keys are those of the authors' files and of ours. Slower than ``derived``, which trains and tests here; the same
function. For hooks, export, and layers of one's own.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from papers.sgnas.networks.architectures import FIRST_CHANNELS, LAST_CHANNELS, STEM_CHANNELS, Kernels, Macro
from papers.sgnas.networks.derived import DROPOUT, Network
from papers.sgnas.networks.layers import BN_EPS, ConvBN, SqueezeExcite
from papers.sgnas.networks.published_keys import Published


def activation_of(name: str) -> nn.Module:
    """``relu`` is ReLU6."""
    return nn.ReLU6() if name == "relu" else nn.Hardswish()


class PlainDepthwise(nn.Module):
    """One depthwise convolution per sub-block, then one normalisation."""

    def __init__(self, channels: int, kernels: list[int], stride: int, momentum: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Conv2d(channels, channels, k, stride, k // 2, groups=channels, bias=False) for k in kernels
        )
        self.bn = nn.BatchNorm2d(channels * len(kernels), BN_EPS, momentum)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.chunk(len(self.blocks), 1)
        return self.bn(torch.cat([conv(parts[i]) for i, conv in enumerate(self.blocks)], 1))


class PlainBlock(nn.Module):
    """Inverted bottleneck: 1x1 expansion (absent for expansion 1), sub-blocks, [SE], 1x1 projection, residual."""

    def __init__(
        self, channels: int, out: int, kernels: list[int], stride: int, se: bool, activation: str, momentum: float
    ) -> None:
        super().__init__()
        hidden = channels * len(kernels)
        self.activation = activation_of(activation)
        self.point_wise = ConvBN(channels, hidden, 1, 1, momentum) if len(kernels) > 1 else None
        self.depthwise = PlainDepthwise(channels, kernels, stride, momentum)
        self.se = SqueezeExcite(hidden) if se else None
        self.point_wise_1 = ConvBN(hidden, out, 1, 1, momentum)
        self.residual = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x if self.point_wise is None else self.activation(self.point_wise(x))
        y = self.activation(self.depthwise(y))
        if self.se is not None:
            y = self.se(y)
        y = self.point_wise_1(y)
        return x + y if self.residual else y


class Classifier(nn.Sequential):
    """Dropout, linear layer; ``in_features`` and ``out_features`` are the layer's, since people replace it whole."""

    @property
    def in_features(self) -> int:
        return cast(nn.Linear, self[1]).in_features

    @property
    def out_features(self) -> int:
        return cast(nn.Linear, self[1]).out_features


class PlainNetwork(nn.Module):
    """Images [N, 3, H, W] -> logits [N, classes]. Arguments: those of ``derived.Network``."""

    def __init__(
        self, macro: Macro, kernels: Kernels, classes: int, se: bool = False, activation: str = "relu",
        momentum: float = 0.1, dropout: float = DROPOUT,
    ) -> None:  # fmt: skip
        super().__init__()
        self.activation = activation_of(activation)
        self.first = ConvBN(3, STEM_CHANNELS, 3, macro.stem_stride, momentum)
        self.first_mb = PlainBlock(STEM_CHANNELS, FIRST_CHANNELS, [3], 1, se, activation, momentum)
        self.stages = nn.ModuleList(
            PlainBlock(channels, out, row, stride, se, activation, momentum)
            for channels, (out, stride), row in zip(macro.in_channels, macro.layers, kernels)
        )
        last = nn.Conv2d(macro.layers[-1][0], LAST_CHANNELS, 1, bias=False)
        self.last_stage = nn.Sequential(last, nn.BatchNorm2d(LAST_CHANNELS, BN_EPS, momentum))
        self.classifier = Classifier(nn.Dropout(dropout), nn.Linear(LAST_CHANNELS, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first_mb(self.activation(self.first(x)))
        for stage in self.stages:
            x = stage(x)
        return self.classifier(self.activation(self.last_stage(x)).mean((2, 3)))


def plain_form(network: Network, se: bool, momentum: float) -> PlainNetwork:
    """The same function with the same weights, in eval mode."""
    classes, dropout = network.classifier.out_features, network.dropout
    made = PlainNetwork(network.macro, network.kernels, classes, se, network.activation, momentum, dropout)
    made.load_state_dict(Published(network).state_dict())
    return made.eval()
