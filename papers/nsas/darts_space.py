"""The DARTS convolutional space: operations, cells, supernet and derived networks (section 2).

Module names are those of the released checkpoints. Convolutions have no bias; batch norm is affine in derived networks
and, but for the stem, not affine in the supernet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from papers.nsas.architectures import PRIMITIVES, Encoded

NODES = 4
Drop = Iterator[Tensor] | None


class ReluConvBn(nn.Module):
    """ReLU, convolution, batch norm."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, padding: int, affine: bool):
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False),
            nn.BatchNorm2d(c_out, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class DilConv(nn.Module):
    """ReLU, depthwise with dilation 2, 1x1, batch norm."""

    def __init__(self, c: int, kernel: int, stride: int, affine: bool):
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(c, c, kernel, stride, kernel - 1, dilation=2, groups=c, bias=False),
            nn.Conv2d(c, c, 1, bias=False),
            nn.BatchNorm2d(c, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class SepConv(nn.Module):
    """Twice ReLU, depthwise, 1x1, batch norm; the stride in the first."""

    def __init__(self, c: int, kernel: int, stride: int, affine: bool):
        super().__init__()
        layers: list[nn.Module] = []
        for s in (stride, 1):
            layers += [
                nn.ReLU(),
                nn.Conv2d(c, c, kernel, s, (kernel - 1) // 2, groups=c, bias=False),
                nn.Conv2d(c, c, 1, bias=False),
                nn.BatchNorm2d(c, affine=affine),
            ]
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class FactorizedReduce(nn.Module):
    """ReLU, two 1x1 stride-2 convolutions (the second shifted by one pixel), concatenated, batch norm."""

    def __init__(self, c_in: int, c_out: int, affine: bool):
        super().__init__()
        self.conv_1 = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))


class Zero(nn.Module):
    """``none``."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0.0


def operation(index: int, c: int, stride: int, affine: bool) -> nn.Module:
    """One of PRIMITIVES."""
    name = PRIMITIVES[index]
    if name == "none":
        return Zero(stride)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, 1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(c, c, affine)
    kernel = int(name[-1])
    return SepConv(c, kernel, stride, affine) if name.startswith("sep") else DilConv(c, kernel, stride, affine)


class MixedOperation(nn.Module):
    """All eight operations of an edge; pooling is followed by batch norm."""

    def __init__(self, c: int, stride: int):
        super().__init__()
        self._ops = nn.ModuleList()
        for index, name in enumerate(PRIMITIVES):
            op = operation(index, c, stride, affine=False)
            self._ops.append(nn.Sequential(op, nn.BatchNorm2d(c, affine=False)) if "pool" in name else op)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self._ops))


class _CellBase(nn.Module):
    def __init__(self, c_before: int, c_last: int, c: int, reduction: bool, reduction_before: bool, affine: bool):
        super().__init__()
        self.reduction = reduction
        self.preprocess0 = (
            FactorizedReduce(c_before, c, affine) if reduction_before else ReluConvBn(c_before, c, 1, 1, 0, affine)
        )
        self.preprocess1 = ReluConvBn(c_last, c, 1, 1, 0, affine)
        self._ops = nn.ModuleList()


class SearchCell(_CellBase):
    """Fourteen mixed edges."""

    def __init__(self, c_before: int, c_last: int, c: int, reduction: bool, reduction_before: bool):
        super().__init__(c_before, c_last, c, reduction, reduction_before, affine=False)
        for node in range(NODES):
            for state in range(node + 2):
                self._ops.append(MixedOperation(c, 2 if reduction and state < 2 else 1))

    def forward(self, s0: Tensor, s1: Tensor, table: Tensor) -> Tensor:
        states, edge = [self.preprocess0(s0), self.preprocess1(s1)], 0
        for _ in range(NODES):
            total = sum(self._ops[edge + j](state, table[edge + j]) for j, state in enumerate(states))
            edge += len(states)
            states.append(total)
        return torch.cat(states[2:], 1)


class DerivedCell(_CellBase):
    """Eight operations in genotype order; a pair listed twice is built twice."""

    def __init__(self, pairs, c_before: int, c_last: int, c: int, reduction: bool, reduction_before: bool):
        super().__init__(c_before, c_last, c, reduction, reduction_before, affine=True)
        self.inputs = [state for _, state in pairs]
        for index, state in pairs:
            self._ops.append(operation(index, c, 2 if reduction and state < 2 else 1, affine=True))

    def forward(self, s0: Tensor, s1: Tensor, keep: float, masks: Drop) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for node in range(NODES):
            total = None
            for slot in (2 * node, 2 * node + 1):
                op = self._ops[slot]
                out = op(states[self.inputs[slot]])
                if self.training and keep < 1 and not isinstance(op, nn.Identity):
                    out = drop_path(out, keep, masks)
                total = out if total is None else total + out
            states.append(total)
        return torch.cat(states[2:], 1)


def drop_path(x: Tensor, keep: float, masks: Drop) -> Tensor:
    """One Bernoulli(keep) a sample: x / keep * mask; masks may be given."""
    mask = torch.empty(x.shape[0], device=x.device).bernoulli_(keep) if masks is None else next(masks)
    return x / keep * mask.to(x.dtype).view(-1, 1, 1, 1)


def _plan(layers: int, channels: int) -> Iterator[tuple[int, bool]]:
    """(width, is a reduction) of every cell: reductions at L // 3 and 2 L // 3, where the width doubles first."""
    for i in range(layers):
        reduction = i in (layers // 3, 2 * layers // 3)
        channels *= 2 if reduction else 1
        yield channels, reduction


class Supernet(nn.Module):
    """The search network: tables [14, 8] weight every operation, raw or through a softmax over rows."""

    def __init__(self, channels: int, classes: int, layers: int, mixing: str = "raw"):
        super().__init__()
        self.mixing = mixing
        width = 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.cells = nn.ModuleList()
        before, last, was_reduction = width, width, False
        for c, reduction in _plan(layers, channels):
            self.cells.append(SearchCell(before, last, c, reduction, was_reduction))
            before, last, was_reduction = last, NODES * c, reduction
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: Tensor, normal: Tensor, reduce: Tensor) -> Tensor:
        """Logits [B, K] of the whole mixture."""
        if self.mixing == "softmax":
            normal, reduce = normal.softmax(-1), reduce.softmax(-1)
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, reduce if cell.reduction else normal)
        return self.classifier(self.global_pooling(s1).flatten(1))


class AuxiliaryHead(nn.Module):
    """ReLU, average pool 5, 1x1 -> 128, 2x2 -> 768, linear; ImageNet's has stride 2 and no second batch norm."""

    def __init__(self, c: int, classes: int, imagenet: bool):
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReLU(inplace=True),
            nn.AvgPool2d(5, 2 if imagenet else 3, 0, count_include_pad=False),
            nn.Conv2d(c, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, 768, 2, bias=False),
        ]
        layers += [] if imagenet else [nn.BatchNorm2d(768)]
        self.features = nn.Sequential(*layers, nn.ReLU(inplace=True))
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class DerivedNetwork(nn.Module):
    """CIFAR or ImageNet network of an architecture; returns (logits, auxiliary logits or None)."""

    def __init__(
        self, architecture: Encoded, classes: int, channels: int, layers: int, auxiliary: bool, imagenet: bool = False
    ):
        super().__init__()
        self.imagenet, self.drop_path_prob, self.auxiliary_at = imagenet, 0.0, 2 * layers // 3
        if imagenet:
            half, full = channels // 2, channels
            self.stem0 = nn.Sequential(
                nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
                nn.Conv2d(half, full, 3, 2, 1, bias=False), nn.BatchNorm2d(full),
            )  # fmt: skip
            self.stem1 = nn.Sequential(
                nn.ReLU(inplace=True), nn.Conv2d(full, full, 3, 2, 1, bias=False), nn.BatchNorm2d(full)
            )
            before = last = full
        else:
            before = last = 3 * channels
            self.stem = nn.Sequential(nn.Conv2d(3, last, 3, padding=1, bias=False), nn.BatchNorm2d(last))
        self.cells = nn.ModuleList()
        was_reduction = imagenet
        for i, (c, reduction) in enumerate(_plan(layers, channels)):
            pairs = architecture.reduce if reduction else architecture.normal
            self.cells.append(DerivedCell(pairs, before, last, c, reduction, was_reduction))
            before, last, was_reduction = last, NODES * c, reduction
            if i == self.auxiliary_at:
                auxiliary_width = last
        if auxiliary:
            self.auxiliary_head = AuxiliaryHead(auxiliary_width, classes, imagenet)
        self.global_pooling = nn.AvgPool2d(7) if imagenet else nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: Tensor, masks: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits [B, K] and, in train mode with the head, auxiliary logits; ``masks`` replace the drawn drop-path."""
        auxiliary, keep = None, 1.0 - self.drop_path_prob
        given = iter(masks) if masks is not None else None
        if self.imagenet:
            s0 = self.stem0(x)
            s1 = self.stem1(s0)
        else:
            s0 = s1 = self.stem(x)
        for i, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1, keep, given)
            if i == self.auxiliary_at and self.training and hasattr(self, "auxiliary_head"):
                auxiliary = self.auxiliary_head(s1)
        return self.classifier(self.global_pooling(s1).flatten(1)), auxiliary
