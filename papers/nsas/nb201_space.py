"""The NAS-Bench-201 macro network (section 6.1): as a supernet of one path, or of one fixed cell.

Edges in the order 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2; a node is the sum of its edges; only the chosen operation runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from papers.nsas.darts_space import ReluConvBn, Zero

EDGES = ("1<-0", "2<-0", "2<-1", "3<-0", "3<-1", "3<-2")
SOURCES = (0, 0, 1, 0, 1, 2)
NODE_EDGES = ((0,), (1, 2), (3, 4, 5))


def operation(index: int, c: int, affine: bool) -> nn.Module:
    """none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3."""
    if index == 0:
        return Zero(1)
    if index == 1:
        return nn.Identity()
    if index == 4:
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    kernel = 1 if index == 2 else 3
    return ReluConvBn(c, c, kernel, 1, kernel // 2, affine)


class Cell(nn.Module):
    """Six edges with all five operations, or (``code``) one operation each."""

    def __init__(self, c: int, code: Sequence[int] | None):
        super().__init__()
        self.fixed = code is not None
        self.edges = nn.ModuleDict()
        for number, name in enumerate(EDGES):
            if code is None:
                self.edges[name] = nn.ModuleList(operation(k, c, affine=False) for k in range(5))
            else:
                self.edges[name] = operation(int(code[number]), c, affine=True)

    def forward(self, x: Tensor, code: Sequence[int] | None, weights: Tensor | None) -> Tensor:
        nodes = [x]
        for edges in NODE_EDGES:
            total = None
            for e in edges:
                module = self.edges[EDGES[e]]
                out = module(nodes[SOURCES[e]]) if self.fixed else self._run(module, e, nodes, code, weights)
                if out is not None:
                    total = out if total is None else total + out
            nodes.append(torch.zeros_like(x) if total is None else total)
        return nodes[3]

    @staticmethod
    def _run(module, e: int, nodes: list[Tensor], code: Sequence[int], weights: Tensor | None) -> Tensor | None:
        index = int(code[e])
        if weights is None:
            # ``none`` adds zeros: nothing to compute
            return None if index == 0 else module[index](nodes[SOURCES[e]])
        # the chosen operation times its weight (1 in value), and the other weights, which are 0 but have a gradient
        others = torch.cat([weights[e, :index], weights[e, index + 1 :]]).sum()
        return module[index](nodes[SOURCES[e]]) * weights[e, index] + others


class ResidualBlock(nn.Module):
    """Two ReLU-3x3-BN, the first with stride 2, plus average pool 2x2 and 1x1 convolution without batch norm."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv_a = ReluConvBn(c_in, c_out, 3, 2, 1, affine=True)
        self.conv_b = ReluConvBn(c_out, c_out, 3, 1, 1, affine=True)
        self.downsample = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(x) + self.conv_b(self.conv_a(x))


class MacroNetwork(nn.Module):
    """stem, N cells C, block, N cells 2C, block, N cells 4C, BN-ReLU, pool, linear."""

    def __init__(self, channels: int, cells: int, classes: int, code: Sequence[int] | None = None):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.cells = nn.ModuleList()
        c = channels
        for stage in range(3):
            if stage:
                self.cells.append(ResidualBlock(c, 2 * c))
                c *= 2
            self.cells.extend(Cell(c, code) for _ in range(cells))
        self.lastact = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(c, classes)

    def forward(self, x: Tensor, code: Sequence[int] | None = None, weights: Tensor | None = None) -> Tensor:
        """Logits [B, K]; ``code`` (six operations) for a supernet, ``weights`` [6, 5] for straight-through GDAS."""
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x, code, weights) if isinstance(cell, Cell) else cell(x)
        return self.classifier(self.lastact(x).mean((2, 3)))
