"""The NAS-Bench-201 space (Dong & Yang 2020): macro network, supernet and the benchmark's own networks.

A cell has nodes 0..3 and six edges in the order 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2; a node is the sum of its edges, the
output is node 3. 5^6 = 15,625 cells. Module names are those of released checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.data.nasbench201 import EDGES, OPERATIONS
from common.spaces.darts.operations import Zero
from common.spaces.darts.supernet import Mixture, add_weighted, plain_numbers
from common.train import batchnorm

EDGE_NAMES = tuple(f"{node}<-{source}" for node, source in EDGES)  # of modules
SOURCES = tuple(source for _, source in EDGES)
NODE_EDGES = ((0,), (1, 2), (3, 4, 5))
NONE, SKIP, CONV_1X1, CONV_3X3, AVG_POOL = range(5)


class ReLUConvBN(nn.Module):
    """ReLU, convolution without bias, batch norm (with running statistics or without)."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int, padding: int, affine: bool, track: bool
    ) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False),
            nn.BatchNorm2d(c_out, affine=affine, track_running_stats=track),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


def operation(index: int, c: int, affine: bool, track: bool = True) -> nn.Module:
    """One of OPERATIONS with c channels in and out, stride 1."""
    if index == NONE:
        return Zero(1)
    if index == SKIP:
        return nn.Identity()
    if index == AVG_POOL:
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    kernel = 1 if index == CONV_1X1 else 3
    return ReLUConvBN(c, c, kernel, 1, kernel // 2, affine, track)


class SearchCell(nn.Module):
    """Six edges that hold all five operations each."""

    def __init__(self, c: int, track: bool) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {name: nn.ModuleList(operation(k, c, affine=False, track=track) for k in range(5)) for name in EDGE_NAMES}
        )
        self._edges: list[Any] = list(self.edges.values())

    def plain(self, x: Tensor, weights: Tensor) -> Tensor:
        """The mixture edge by edge, every operation run: the reference that ``mixture`` equals."""
        nodes = [x]
        for edges in NODE_EDGES:
            terms = [weights[e, k] * op(nodes[SOURCES[e]]) for e in edges for k, op in enumerate(self._edges[e])]
            nodes.append(sum(terms[1:], terms[0]))
        return nodes[3]

    def mixture(self, x: Tensor, weights: Mixture) -> Tensor:
        """sum_k w[e, k] op_k on every edge; ReLU and pool of a node are shared by all edges that leave it."""
        nodes = [x]
        shared: list[tuple[Tensor, Tensor]] = []
        for edges in NODE_EDGES:
            shared.append((torch.relu(nodes[-1]), self._edges[0][AVG_POOL](nodes[-1])))
            total: Tensor | None = None
            for e in edges:
                source, ops, row = SOURCES[e], self._edges[e], weights[e]
                rectified, pooled = shared[source]
                total = add_weighted(total, nodes[source], row[SKIP])
                total = add_weighted(total, pooled, row[AVG_POOL])
                for k in (CONV_1X1, CONV_3X3):
                    _, conv, norm = ops[k].op
                    total = add_weighted(total, norm(conv(rectified)), row[k])
            nodes.append(total)  # type: ignore[arg-type]
        return nodes[3]

    def path(
        self, x: Tensor, code: Sequence[int], weights: Tensor | None = None, update_unselected: bool = False
    ) -> Tensor:
        """Only the chosen operation of each edge (``none`` adds nothing).

        With straight-through ``weights`` [6, 5] (GDAS: value 0 or 1, gradient of a softmax) the chosen operation is
        multiplied by its weight, and the other weights are added, whose value is 0 but whose gradient is not.
        """
        nodes = [x]
        for edges in NODE_EDGES:
            total: Tensor | None = None
            for e in edges:
                index, module = int(code[e]), self._edges[e]
                if update_unselected and self.training:
                    with torch.no_grad():
                        for k in {CONV_1X1, CONV_3X3} - {index}:
                            module[k](nodes[SOURCES[e]])
                if weights is None:
                    if index == NONE:
                        continue
                    out = module[index](nodes[SOURCES[e]])
                else:
                    others = torch.cat([weights[e, :index], weights[e, index + 1 :]]).sum()
                    out = module[index](nodes[SOURCES[e]]) * weights[e, index] + others
                total = out if total is None else total + out
            nodes.append(torch.zeros_like(x) if total is None else total)
        return nodes[3]


class FixedCell(nn.Module):
    """Six edges with one operation each, as the benchmark trains it."""

    def __init__(self, c: int, code: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(operation(int(k), c, affine=True) for k in code)

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for edges in NODE_EDGES:
            outputs = [self.layers[e](nodes[SOURCES[e]]) for e in edges]
            nodes.append(sum(outputs[1:], outputs[0]))
        return nodes[3]


class ResidualBlock(nn.Module):
    """Two ReLU-3x3-BN, the first with stride 2, plus average pool 2x2 and a 1x1 convolution without batch norm."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv_a = ReLUConvBN(c_in, c_out, 3, 2, 1, affine=True, track=True)
        self.conv_b = ReLUConvBN(c_out, c_out, 3, 1, 1, affine=True, track=True)
        self.downsample = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(x) + self.conv_b(self.conv_a(x))


class _Macro(nn.Module):
    """stem C, N cells, block, N cells 2C, block, N cells 4C, BN, ReLU, mean over the map, linear."""

    def __init__(self, channels: int, cells_per_stage: int, classes: int, cell: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.cells = nn.ModuleList()
        c = channels
        for stage in range(3):
            if stage:
                self.cells.append(ResidualBlock(c, 2 * c))
                c *= 2
            self.cells.extend(cell(c) for _ in range(cells_per_stage))
        self.lastact = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(c, classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def start(self, x: Tensor) -> Tensor:
        """The stem, channels last."""
        return self.stem(x.contiguous(memory_format=torch.channels_last))

    def head(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(pooled features [B, 4C], logits [B, classes]) of the last map."""
        features = self.lastact(x).mean((2, 3))
        return features, self.classifier(features)


class Supernet(_Macro):
    """All five operations on each edge; batch norm in cells is not affine and tracks statistics on request.

    C = 16, N = 5, 10 classes: 1,686,106 parameters. With ``with_architecture`` the state dict also holds
    ``arch_parameters`` [6, 5], as EvNAS's and GDAS's do. Height and width must be multiples of 4.
    """

    def __init__(
        self,
        channels: int = 16,
        cells_per_stage: int = 5,
        classes: int = 10,
        track_running_stats: bool = True,
        with_architecture: bool = False,
    ) -> None:
        super().__init__(channels, cells_per_stage, classes, lambda c: SearchCell(c, track_running_stats))
        if with_architecture:
            self.arch_parameters = nn.Parameter(1e-3 * torch.randn(len(EDGES), len(OPERATIONS)), requires_grad=False)

    def _through(self, x: Tensor, run: Callable[[SearchCell, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        x = self.start(x)
        for cell in self.cells:
            x = run(cell, x) if isinstance(cell, SearchCell) else cell(x)
        return self.head(x)

    def forward(self, x: Tensor, weights: Mixture) -> Tensor:
        """Logits [B, classes] of the mixture with weights [6, 5], used as they are (already a softmax, say)."""
        table = plain_numbers(weights)
        return self._through(x, lambda cell, value: cell.mixture(value, table))[1]

    def features(self, x: Tensor, weights: Mixture) -> Tensor:
        """Pooled features [B, 4C] of the mixture."""
        table = plain_numbers(weights)
        return self._through(x, lambda cell, value: cell.mixture(value, table))[0]

    def plain(self, x: Tensor, weights: Tensor) -> Tensor:
        """``forward`` with every operation run on its own: the reference of the equality tests."""
        return self._through(x, lambda cell, value: cell.plain(value, weights))[1]

    def path(
        self, x: Tensor, code: Sequence[int], weights: Tensor | None = None, update_unselected: bool = False
    ) -> Tensor:
        """Logits of one cell ``code`` (six operation indices); only the chosen operations run.

        update_unselected: in train mode the others run too, without a graph, so that their running statistics move as
        in dense execution with 0/1 weights.
        """
        return self._through(x, lambda cell, value: cell.path(value, code, weights, update_unselected))[1]


class Network(_Macro):
    """The benchmark's network of one cell: batch norm affine, statistics tracked."""

    def __init__(self, code: Sequence[int], channels: int = 16, cells_per_stage: int = 5, classes: int = 10) -> None:
        super().__init__(channels, cells_per_stage, classes, lambda c: FixedCell(c, code))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes]."""
        x = self.start(x)
        for cell in self.cells:
            x = cell(x)
        return self.head(x)[1]


@torch.no_grad()
def fold(model: Supernet) -> Callable[[Tensor, Tensor], Tensor]:
    """The supernet in eval mode as a function (x, weights [6, 5]) -> logits, for scoring without gradients.

    Equal to ``model.forward`` in eval mode up to rounding, with less work: batch norm (running statistics) is folded
    into the convolutions, and an edge's 1x1 and 3x3 convolutions merge: w2 (K1 * r) + w3 (K3 * r) is one 3x3
    convolution of r = ReLU(source), and all edges that leave a node share one. The weights are a copy: fold again after
    training. Raises ValueError where cells have no running statistics.
    """
    folded = [_fold_cell(cell) if isinstance(cell, SearchCell) else cell for cell in model.cells]

    @torch.no_grad()
    def run(x: Tensor, weights: Tensor) -> Tensor:
        x = model.start(x)
        for cell in folded:
            x = cell(x, weights) if not isinstance(cell, nn.Module) else cell(x)
        return model.head(x)[1]

    return run


def _fold_cell(cell: SearchCell) -> Callable[[Tensor, Tensor], Tensor]:
    kernels, shifts = [], []  # per edge: [2, c, c, 3, 3] (1x1 padded to 3x3, 3x3) and [2, c]
    for edge in cell._edges:
        pair, shift = [], []
        for k in (CONV_1X1, CONV_3X3):
            _, conv, norm = edge[k].op
            if norm.running_mean is None:
                raise ValueError("batch norm without running statistics cannot be folded")
            kernel, offset = batchnorm.fold(conv.weight, norm)
            pair.append(F.pad(kernel, (1, 1, 1, 1)) if k == CONV_1X1 else kernel)
            shift.append(offset)
        kernels.append(torch.stack(pair))
        shifts.append(torch.stack(shift))
    stacked, offsets = torch.stack(kernels), torch.stack(shifts)
    channels = offsets.shape[-1]

    def run(x: Tensor, weights: Tensor) -> Tensor:
        mixed = weights[:, CONV_1X1 : CONV_3X3 + 1]  # [6, 2]
        merged = (stacked * mixed[..., None, None, None, None]).sum(1)  # [6, c, c, 3, 3]
        bias = (offsets * mixed[..., None]).sum(1)  # [6, c]
        nodes: list[Any] = [x, None, None, None]
        for source in range(3):
            edges = [e for e in range(len(EDGES)) if SOURCES[e] == source]
            value = nodes[source]
            kernel = torch.cat([merged[e] for e in edges]).contiguous(memory_format=torch.channels_last)
            out = F.conv2d(torch.relu(value), kernel, torch.cat([bias[e] for e in edges]), padding=1)
            pooled = F.avg_pool2d(value, 3, 1, 1, count_include_pad=False)
            for e, part in zip(edges, out.split(channels, 1), strict=True):
                node = EDGES[e][0]
                part.addcmul_(value, weights[e, SKIP]).addcmul_(pooled, weights[e, AVG_POOL])
                nodes[node] = part if nodes[node] is None else nodes[node].add_(part)
        return nodes[3]  # type: ignore[return-value]

    return run
