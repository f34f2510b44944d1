"""Networks derived from an architecture, for CIFAR-sized images and for ImageNet (Method 11)."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from papers.nao_v2.networks.architectures import Architecture, Cell, Shape, edges, loose_ends
from papers.nao_v2.networks.operations import (
    ConvChain,
    DropPath,
    FactorizedReduce,
    Pool,
    ReluConvBn,
    Separable,
    build,
    initialise,
)

AUXILIARY_WIDTHS = (128, 768)


class Calibration(nn.Module):
    """Bring the cell's two inputs to its width, and the older one to the newer one's size."""

    def __init__(self, before: tuple[int, int], previous: tuple[int, int], channels: int) -> None:
        """``before``, ``previous``: (height, channels) of the two inputs at the nominal image size."""
        super().__init__()
        (h0, c0), (h1, c1) = before, previous
        self.halve = h0 != h1
        if self.halve:
            self.preprocess_x: nn.Module | None = FactorizedReduce(c0, channels)
        else:
            self.preprocess_x = ReluConvBn(c0, channels) if c0 != channels else None
        self.preprocess_y = ReluConvBn(c1, channels) if c1 != channels else None

    def forward(self, s0: Tensor, s1: Tensor) -> tuple[Tensor, Tensor]:
        if self.preprocess_x is not None:
            s0 = self.preprocess_x(F.relu(s0) if self.halve else s0)
        if self.preprocess_y is not None:
            s1 = self.preprocess_y(s1)
        return s0, s1


class Node(nn.Module):
    """op1(state1) + op2(state2)."""

    def __init__(self, space: str, node: tuple[int, int, int, int], channels: int, reduction: bool) -> None:
        super().__init__()
        i1, o1, i2, o2 = node
        self.x_op = build(space, o1, channels, 2 if reduction and i1 < 2 else 1)
        self.y_op = build(space, o2, channels, 2 if reduction and i2 < 2 else 1)


class FinalCombine(nn.Module):
    """Concatenate loose ends; in a reduction cell a loose input is halved first."""

    def __init__(self, loose: list[int], channels: int, reduction: bool) -> None:
        super().__init__()
        self.loose = loose
        self.halved = [s for s in loose if s < 2] if reduction else []
        self.ops = nn.ModuleList(FactorizedReduce(channels, channels) for _ in self.halved)

    def forward(self, states: list[Tensor]) -> Tensor:
        picked = {state: op(states[state]) for state, op in zip(self.halved, self.ops)}
        return torch.cat([picked.get(state, states[state]) for state in self.loose], 1)


class DerivedCell(nn.Module):
    """A normal or reduction cell; out_channels = width x number of loose ends."""

    def __init__(
        self,
        space: str,
        cell: Cell,
        index: int,
        before: tuple[int, int],
        previous: tuple[int, int],
        channels: int,
        reduction: bool,
    ) -> None:
        super().__init__()
        self.index, self.nodes = index, edges(cell)
        self.shared = True  # what readers of a state have in common is computed once, past the modules of the others
        self.ops = nn.ModuleList(Node(space, node, channels, reduction) for node in self.nodes)
        self.maybe_calibrate_size = Calibration(before, previous, channels)
        loose = loose_ends(cell)
        self.final_combine = FinalCombine(loose, channels, reduction)
        self.out_channels = channels * len(loose)

    def forward(self, s0: Tensor, s1: Tensor, drop: DropPath | None) -> Tensor:
        states = list(self.maybe_calibrate_size(s0, s1))
        relus: dict[int, Tensor] = {}  # ReLU and pooling of a state are the same for all its readers: done once
        pooled: dict[tuple[int, int, int], Tensor] = {}
        for number, (i1, o1, i2, o2) in enumerate(self.nodes):
            module, total = cast(Node, self.ops[number]), None
            for operand, (op, state, kind) in enumerate(((module.x_op, i1, o1), (module.y_op, i2, o2))):
                if not self.shared:
                    out = op(states[state])
                elif isinstance(op, Pool):
                    key = (state, kind, op.stride)
                    if key not in pooled:
                        pooled[key] = op(states[state])
                    out = pooled[key]
                elif isinstance(op, Separable | ConvChain):
                    if state not in relus:
                        relus[state] = F.relu(states[state])
                    out = op(states[state], relus[state])
                else:
                    out = op(states[state])
                if drop is not None:
                    out = drop(out, self.index, number, operand, kind)
                total = out if total is None else total + out
            states.append(total)
        return self.final_combine(states)


class AuxiliaryHead(nn.Module):
    """Average pool 5, 1x1 to 128, BN, ReLU, 2x2 to 768, BN, ReLU, linear. Takes ReLU(cell output)."""

    def __init__(self, channels: int, classes: int, stride: int) -> None:
        super().__init__()
        narrow, wide = AUXILIARY_WIDTHS
        self.stride = stride
        self.conv1 = nn.Conv2d(channels, narrow, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, wide, 2, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.classifier = nn.Linear(wide, classes)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            raise UserError(
                "a batch, or a share of one, holds a single image, of which the auxiliary head can take no batch "
                "statistics; choose another batch size or another number of images, or --no-auxiliary"
            )
        x = F.avg_pool2d(x, 5, self.stride, count_include_pad=False)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.classifier(x.flatten(1))


class Network(nn.Module):
    """The derived network: 3 ``layers`` + 2 cells, reductions at ``layers`` and 2 ``layers`` + 1.

    Returns logits [N, classes], in train mode with an auxiliary head (logits, auxiliary logits).
    relu_in_place: the authors' auxiliary head rectifies the cell's output in place, so later cells see it rectified in
    training; False: the clean version.
    """

    def __init__(
        self, architecture: Architecture, shape: Shape = Shape(), *, auxiliary: bool = False, dropout_keep: float = 1.0,
        relu_in_place: bool = True, generator: torch.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture, self.kind, self.layers = architecture, shape.kind, shape.layers
        kind, channels, layers, classes, space = shape.kind, shape.channels, shape.layers, shape.classes, shape.space
        self.relu_in_place = relu_in_place
        self.drop_path: DropPath | None = None
        if kind == "cifar":
            self.stem = nn.Sequential(
                nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels)
            )
            before = previous = (32, 3 * channels)
        else:
            self.stem0 = nn.Sequential(
                nn.Conv2d(3, channels // 2, 3, 2, 1, bias=False),
                nn.BatchNorm2d(channels // 2),
                nn.ReLU(),
                nn.Conv2d(channels // 2, channels, 3, 2, 1, bias=False),
                nn.BatchNorm2d(channels),
            )
            self.stem1 = nn.Sequential(
                nn.ReLU(), nn.Conv2d(channels, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels)
            )
            before, previous = (56, channels), (28, channels)
        self.cells = nn.ModuleList()
        width, self.cells_total = channels, 3 * layers + 2
        for index in range(self.cells_total):
            reduction = index in (layers, 2 * layers + 1)
            width *= 2 if reduction else 1
            cell = DerivedCell(space, architecture[reduction], index, before, previous, width, reduction)
            self.cells.append(cell)
            size = -(-previous[0] // 2) if reduction else previous[0]
            before, previous = previous, (size, cell.out_channels)
            if index == 2 * layers + 1 and auxiliary:
                self.auxiliary_head = AuxiliaryHead(cell.out_channels, classes, 3 if kind == "cifar" else 2)
        self.auxiliary = auxiliary
        self.dropout = nn.Dropout(1 - dropout_keep)
        self.classifier = nn.Linear(previous[1], classes)
        initialise(self, generator)
        self.channels_last = True
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def plain(self) -> Network:
        """The network itself, slower from now on: every layer is called as a module, with contiguous tensors.

        For hooks, export, and layers of one's own; the same function.
        """
        for cell in self.cells:
            cast(DerivedCell, cell).shared = False
        self.channels_last = False
        return self.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *arguments: Any) -> None:
        """A network without auxiliary head leaves out that of a training that had one."""
        if not self.auxiliary:
            for name in [name for name in state_dict if name.startswith(prefix + "auxiliary_head.")]:
                del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        if self.kind == "cifar":
            s0 = s1 = self.stem(x)
        else:
            s0 = self.stem0(x)
            s1 = self.stem1(s0)
        drop = self.drop_path if self.training else None
        auxiliary = None
        for index, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1, drop)
            if self.auxiliary and self.training and index == 2 * self.layers + 1:
                rectified = F.relu(s1)
                auxiliary = self.auxiliary_head(rectified)
                if self.relu_in_place:
                    s1 = rectified
        logits = self.classifier(self.dropout(s1.mean((2, 3))))
        return logits if auxiliary is None else (logits, auxiliary)
