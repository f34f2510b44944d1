"""The building blocks, identical in supernet and derived networks (Method 13). Names are those of the checkpoints."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers.cream.networks.convolution import Convolution
from papers.cream.networks.layout import BlockSpec, round8


def convolution(
    cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution with symmetric padding ((stride - 1) + (kernel - 1)) // 2."""
    return Convolution(cin, cout, kernel, stride, ((stride - 1) + (kernel - 1)) // 2, groups=groups, bias=bias)


def mean_pool(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, 1, 1]. The same numbers as ``mean``, whose gradient fills a tensor of the input's size."""
    return x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])


class SqueezeExcite(nn.Module):
    """Global average -> 1x1 conv -> ReLU -> 1x1 conv -> hard sigmoid -> multiply; reduced from the expanded width.

    The hard sigmoid is relu6(x + 3) / 6 because ``F.hardsigmoid`` has no double backward, which the meta update needs.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = round8(channels / 4)
        self.conv_reduce = convolution(channels, middle, bias=True)
        self.conv_expand = convolution(middle, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.conv_expand(F.relu(self.conv_reduce(mean_pool(x))))
        return x * (F.relu6(gate + 3.0) / 6.0)


class DepthwiseSeparable(nn.Module):
    """D: depthwise - BN - swish - SE - 1x1 - BN, with a skip when the shape allows; no activation at the end."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.skip = spec.skip
        self.conv_dw = convolution(spec.cin, spec.cin, spec.kernel, spec.stride, spec.cin)
        self.bn1 = nn.BatchNorm2d(spec.cin)
        self.se = SqueezeExcite(spec.cin)
        self.conv_pw = convolution(spec.cin, spec.cout)
        self.bn2 = nn.BatchNorm2d(spec.cout)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv_pw(self.se(F.silu(self.bn1(self.conv_dw(x))))))
        return out + x if self.skip else out


class InvertedResidual(nn.Module):
    """M: 1x1 expand - BN - swish - depthwise - BN - swish - SE - 1x1 - BN, with a skip when the shape allows."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        middle = spec.middle
        self.skip = spec.skip
        self.conv_pw = convolution(spec.cin, middle)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv_dw = convolution(middle, middle, spec.kernel, spec.stride, middle)
        self.bn2 = nn.BatchNorm2d(middle)
        self.se = SqueezeExcite(middle)
        self.conv_pwl = convolution(middle, spec.cout)
        self.bn3 = nn.BatchNorm2d(spec.cout)

    def forward(self, x: Tensor) -> Tensor:
        out = F.silu(self.bn1(self.conv_pw(x)))
        out = self.se(F.silu(self.bn2(self.conv_dw(out))))
        out = self.bn3(self.conv_pwl(out))
        return out + x if self.skip else out


class ConvBnAct(nn.Module):
    """C: 1x1 - BN - swish."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.conv = convolution(spec.cin, spec.cout, spec.kernel, spec.stride)
        self.bn1 = nn.BatchNorm2d(spec.cout)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.bn1(self.conv(x)))


class ResidualUnit(nn.Module):
    """Extra choice of the larger space: bottleneck of width cout / 4, every convolution with bias."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        middle = spec.middle
        self.conv1 = convolution(spec.cin, middle, bias=True)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = convolution(middle, middle, 3, spec.stride, bias=True)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = convolution(middle, spec.cout, bias=True)
        self.bn3 = nn.BatchNorm2d(spec.cout)
        self.shortcut = (
            nn.Sequential(convolution(spec.cin, spec.cout, 1, spec.stride, bias=True), nn.BatchNorm2d(spec.cout))
            if spec.cin != spec.cout
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


BLOCKS: dict[str, type[nn.Module]] = {
    "dwsep": DepthwiseSeparable,
    "mbconv": InvertedResidual,
    "conv_bn_act": ConvBnAct,
    "resunit": ResidualUnit,
}


def build_block(spec: BlockSpec) -> nn.Module:
    """The module of a block."""
    return BLOCKS[spec.kind](spec)


def global_pool(x: Tensor, kind: str) -> Tensor:
    """[B, C, H, W] -> [B, C or 2C, 1, 1]: ``avg``, ``max``, ``avgmax`` (their mean), ``catavgmax`` (both)."""
    average = mean_pool(x)
    if kind == "avg":
        return average
    maximum = x.amax((2, 3), keepdim=True)
    if kind == "max":
        return maximum
    return (average + maximum) / 2 if kind == "avgmax" else torch.cat([average, maximum], 1)


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """Convolutions N(0, 2 / (k k cout / groups)), linear U(+-1 / sqrt(outputs)), BN 1 and 0, biases 0 (Method 13)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            module.weight.normal_(0, math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.fill_(1.0)
            module.bias.zero_()
        elif isinstance(module, nn.Linear):
            bound = 1.0 / math.sqrt(module.weight.shape[0])
            module.weight.uniform_(-bound, bound)
            module.bias.zero_()
