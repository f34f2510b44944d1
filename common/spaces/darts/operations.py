"""Operations of the DARTS space; module and parameter names are those of the authors' checkpoints.

All convolutions are without bias; batch norm has eps 1e-5 and momentum 0.1. Tensors are [B, C, H, W].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


def drop_path(x: Tensor, probability: float, mask: Tensor | None = None) -> Tensor:
    """x / (1 - p) * m with one keep-bit m ~ Bernoulli(1 - p) per sample; ``mask`` [B] gives the bits."""
    if mask is None:
        mask = torch.empty(len(x), device=x.device, dtype=x.dtype).bernoulli_(1 - probability)
    return x * (mask.to(x.dtype) / (1 - probability)).view(-1, 1, 1, 1)


class StartsWithReLU(nn.Module):
    """An operation whose first layer is a ReLU: all that read one state can share it."""

    def after_relu(self, x: Tensor) -> Tensor:
        """The operation on an input that went through the ReLU already."""
        raise NotImplementedError


class ReLUConvBN(StartsWithReLU):
    """ReLU, convolution, batch norm. Shapes [B, c_in, H, W] -> [B, c_out, H / stride, W / stride]."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, padding: int = 0, affine: bool = True,
        track: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=padding, bias=False),
            nn.BatchNorm2d(c_out, affine=affine, track_running_stats=track),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The whole block."""
        return self.op(x)

    def after_relu(self, x: Tensor) -> Tensor:
        """The block on an input that went through the ReLU already."""
        return self.op[2](self.op[1](x))


def _planes(weight: Tensor) -> Tensor:
    """A 1x1 kernel with the strides of the default layout (``contiguous`` leaves its ambiguous ones alone)."""
    return weight.reshape(-1).view(weight.shape)


class FactorizedReduce(StartsWithReLU):
    """ReLU; two 1x1 convolutions of stride 2, the second on the input shifted by one pixel; concatenated; batch norm.

    Raises ValueError for odd sizes, on which the two halves differ.
    """

    def __init__(self, c_in: int, c_out: int, affine: bool = True) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(c_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_in, H, W] -> [B, c_out, H / 2, W / 2]."""
        return self.after_relu(functional.relu(x))

    def after_relu(self, x: Tensor) -> Tensor:
        """The same on an input that went through the ReLU already."""
        if x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(f"a factorised reduction needs even sizes, not {x.shape[2]} x {x.shape[3]}")
        # Planes first, weights too: strided 1x1 convolutions of few channels with channels-last strides corrupt the
        # heap in their backward pass on the CPU (seen with torch 2.13).
        even = functional.conv2d(x.contiguous(), _planes(self.conv_1.weight), stride=2)
        odd = functional.conv2d(x[:, :, 1:, 1:].contiguous(), _planes(self.conv_2.weight), stride=2)
        return self.bn(torch.cat([even, odd], dim=1).contiguous(memory_format=torch.channels_last))


class SepConv(StartsWithReLU):
    """Twice ReLU, depthwise, pointwise, batch norm; the stride is in the first depthwise convolution."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool = True) -> None:
        super().__init__()
        pad = kernel // 2

        def depthwise(step: int) -> nn.Conv2d:
            return nn.Conv2d(channels, channels, kernel, stride=step, padding=pad, groups=channels, bias=False)

        def pointwise() -> nn.Conv2d:
            return nn.Conv2d(channels, channels, 1, bias=False)

        def norm() -> nn.BatchNorm2d:
            return nn.BatchNorm2d(channels, affine=affine)

        self.op = nn.Sequential(
            nn.ReLU(), depthwise(stride), pointwise(), norm(), nn.ReLU(), depthwise(1), pointwise(), norm()
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H / stride, W / stride]."""
        return self.op(x)

    def after_relu(self, x: Tensor) -> Tensor:
        """The same on an input that went through the first ReLU already."""
        for layer in list(self.op)[1:]:
            x = layer(x)
        return x


class DilatedConv2d(nn.Conv2d):
    """Conv2d that stays fp32 under autocast on the CPU.

    torch 2.13 computes a wrong bf16 weight gradient for dilated depthwise convolutions there (1e30 and NaN on 32 x 32
    inputs).
    """

    def forward(self, x: Tensor) -> Tensor:
        """As Conv2d."""
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


class DilConv(StartsWithReLU):
    """ReLU, depthwise with dilation 2, pointwise, batch norm."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool = True) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            DilatedConv2d(
                channels, channels, kernel, stride=stride, padding=kernel - 1, dilation=2, groups=channels, bias=False
            ),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H / stride, W / stride]."""
        return self.op(x)

    def after_relu(self, x: Tensor) -> Tensor:
        """The same on an input that went through the ReLU already."""
        return self.op[3](self.op[2](self.op[1](x)))


class Identity(nn.Module):
    """skip_connect of stride 1."""

    def forward(self, x: Tensor) -> Tensor:
        """x."""
        return x


class Zero(nn.Module):
    """``none``: zeros of the strided shape."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """0 * x[:, :, ::stride, ::stride]."""
        return x[:, :, :: self.stride, :: self.stride] * 0.0


def conv_7x1_1x7(channels: int, stride: int, affine: bool) -> nn.Sequential:
    """ReLU, 1x7 with the horizontal stride, 7x1 with the vertical stride, batch norm."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), stride=(1, stride), padding=(0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), stride=(stride, 1), padding=(3, 0), bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


OPS: dict[str, Callable[[int, int, bool], nn.Module]] = {
    "none": lambda c, stride, affine: Zero(stride),
    "max_pool_3x3": lambda c, stride, affine: nn.MaxPool2d(3, stride=stride, padding=1),
    "avg_pool_3x3": lambda c, stride, affine: nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False),
    "skip_connect": lambda c, stride, affine: Identity() if stride == 1 else FactorizedReduce(c, c, affine),
    "sep_conv_3x3": lambda c, stride, affine: SepConv(c, 3, stride, affine),
    "sep_conv_5x5": lambda c, stride, affine: SepConv(c, 5, stride, affine),
    "dil_conv_3x3": lambda c, stride, affine: DilConv(c, 3, stride, affine),
    "dil_conv_5x5": lambda c, stride, affine: DilConv(c, 5, stride, affine),
    "sep_conv_7x7": lambda c, stride, affine: SepConv(c, 7, stride, affine),  # defined, never searched
    "conv_7x1_1x7": conv_7x1_1x7,  # defined, never searched
}
