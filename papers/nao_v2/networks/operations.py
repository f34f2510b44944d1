"""Operations of derived networks, under the authors' module names, and the drop path.

All batch norms: affine, eps 1e-5, momentum 0.1; no convolution has a bias. An operation takes (x, relu): ``relu`` is
ReLU(x), computed once per state by the cell, since every separable convolution of a state starts with it.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers.nao_v2.networks.architectures import SPACES


class FactorizedReduce(nn.Module):
    """Halve the map: 1x1 convolutions on every other pixel, and on every other pixel shifted by one; concatenate; BN.

    No ReLU (unlike DARTS); odd sizes give ceil(H / 2), the shifted half then reads zeros beyond the border.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.path1 = nn.Sequential(nn.Identity(), nn.Conv2d(c_in, c_out // 2, 1, bias=False))
        self.path2 = nn.Sequential(nn.Identity(), nn.Conv2d(c_in, c_out // 2, 1, bias=False))
        self.bn = nn.BatchNorm2d(c_out)

    def halves(self, x: Tensor) -> Tensor:
        """Both paths before normalisation: [N, c_out, ceil(H/2), ceil(W/2)]."""
        height, width = x.shape[-2:]
        first = x[:, :, ::2, ::2]
        second = x[:, :, 1::2, 1::2]
        if height % 2 or width % 2:
            second = F.pad(second, (0, width % 2, 0, height % 2))
        return torch.cat([self.path1(first), self.path2(second)], 1)

    def forward(self, x: Tensor, relu: Tensor | None = None) -> Tensor:
        return self.bn(self.halves(x))


class ReluConvBn(nn.Module):
    """ReLU, 1x1 convolution, BN."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(F.relu(x)))


class Separable(nn.Module):
    """(ReLU, depthwise k x k, pointwise, BN) once (dilated by 2) or twice (stride in the first only)."""

    def __init__(self, channels: int, kernel: int, stride: int, dilated: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for step in (stride,) if dilated else (stride, 1):
            dilation = 2 if dilated else 1
            pad = dilation * (kernel // 2)
            layers += [
                nn.ReLU(),
                nn.Conv2d(channels, channels, kernel, step, pad, dilation, channels, bias=False),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
            ]
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor, relu: Tensor | None = None) -> Tensor:
        first, *layers = self.op
        out = first(x) if relu is None else relu
        for layer in layers:
            out = in_fp32(layer, out) if isinstance(layer, nn.Conv2d) and layer.dilation != (1, 1) else layer(out)
        return out


def in_fp32(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A dilated convolution that stays fp32 under autocast on the CPU.

    torch 2.13 computes a wrong bf16 weight gradient of dilated depthwise ones there (see ``DilatedConv2d`` of the DARTS
    space). Outside the module, so that its type is torch's own.
    """
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return conv(x.float())
    return conv(x)


class ConvChain(nn.Module):
    """ReLU, convolution, BN per kernel: 1x1, 3x3, or 1xk then kx1 (strides (1, s) then (s, 1)); "large" space only."""

    def __init__(self, channels: int, kernels: list[tuple[int, int]], stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for height, width in kernels:
            strides = (stride if height > 1 or width == 1 else 1, stride if width > 1 or height == 1 else 1)
            pad = (height // 2, width // 2)
            conv = nn.Conv2d(channels, channels, (height, width), strides, pad, bias=False)
            layers += [nn.ReLU(), conv, nn.BatchNorm2d(channels)]
        self.ops = nn.Sequential(*layers)

    def forward(self, x: Tensor, relu: Tensor | None = None) -> Tensor:
        if relu is None:
            return self.ops(x)
        out = relu
        for layer in list(self.ops)[1:]:
            out = layer(out)
        return out


class Pool(nn.Module):
    """Average (padding not counted) or maximum; no BN. The 2x2 pools shrink a map by one at stride 1, as released."""

    def __init__(self, kind: str, kernel: int, stride: int) -> None:
        super().__init__()
        self.kind, self.kernel, self.stride = kind, kernel, stride

    def forward(self, x: Tensor, relu: Tensor | None = None) -> Tensor:
        return pool2d(x, self.kind, self.kernel, self.stride)


class Identity(nn.Module):
    """Stride 1: nothing."""

    def forward(self, x: Tensor, relu: Tensor | None = None) -> Tensor:
        return x


class Zero(nn.Module):
    """Multiply by 0, strided slicing."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor, relu: Tensor | None = None) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0.0


def pool2d(x: Tensor, kind: str, kernel: int, stride: int) -> Tensor:
    """Pooling with padding floor((k - 1) / 2)."""
    pad = (kernel - 1) // 2
    if kind == "avg":
        return F.avg_pool2d(x, kernel, stride, pad, count_include_pad=False)
    return F.max_pool2d(x, kernel, stride, pad)


def build(space: str, operation: int, channels: int, stride: int) -> nn.Module:
    """Operation ``operation`` of a space, ``channels`` wide."""
    name = SPACES[space][operation]
    if name == "identity":
        return Identity() if stride == 1 else FactorizedReduce(channels, channels)
    if name == "zero":
        return Zero(stride)
    if name.startswith(("avg", "max")):
        return Pool(name[:3], int(name[3]), stride)
    if name.startswith(("sep", "dil")):
        return Separable(channels, int(name[3]), stride, name.startswith("dil"))
    kernels = {"conv1": [(1, 1)], "conv3": [(3, 3)], "conv1x3": [(1, 3), (3, 1)], "conv1x7": [(1, 7), (7, 1)]}
    return ConvChain(channels, kernels[name], stride)


class DropPath:
    """Drop path per edge and sample (Method 12): x / keep' * Bernoulli(keep') after the operation.

    keep' = 1 - ((step + 1) / steps) ((cell + 1) / cells) (1 - keep); ``step`` is the global step, set by the loop.
    exempt: operation numbers that are left alone (the supernet's identity at publication).
    """

    def __init__(self, keep: float, steps: int, cells: int, exempt: frozenset[int] = frozenset()) -> None:
        self.keep, self.steps, self.cells, self.exempt = keep, steps, cells, exempt
        self.step = 0

    def kept(self, cell: int) -> float:
        """keep' of a cell at the present step."""
        return drop_path_keep(self.keep, cell, self.cells, self.step, self.steps)

    def mask(self, x: Tensor, cell: int, node: int, operand: int, keep: float) -> Tensor:
        """Bernoulli(keep) per sample, [N, 1, 1, 1]; drawn from torch's global generator."""
        return torch.empty(x.shape[0], 1, 1, 1, device=x.device, dtype=x.dtype).bernoulli_(keep)

    def __call__(self, x: Tensor, cell: int, node: int, operand: int, operation: int) -> Tensor:
        keep = self.kept(cell)
        if keep >= 1.0 or operation in self.exempt:
            return x
        return x * (self.mask(x, cell, node, operand, keep) / keep)


class HasDropPath(Protocol):
    """A network with drop path, or without."""

    drop_path: DropPath | None


def set_step(network: HasDropPath, step: int) -> None:
    """Tell a network's drop path the global step."""
    if network.drop_path is not None:
        network.drop_path.step = step


def drop_path_keep(keep: float, cell: int, cells: int, step: int, steps: int) -> float:
    """1 - ((step + 1) / steps) ((cell + 1) / cells) (1 - keep); not limited to 0, as in the original."""
    return 1 - (step + 1) / steps * ((cell + 1) / cells) * (1 - keep)


def initialise(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Kaiming normal (fan-in, gain sqrt 2) for all parameters with two or more dimensions."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter, mode="fan_in", nonlinearity="relu", generator=generator)
