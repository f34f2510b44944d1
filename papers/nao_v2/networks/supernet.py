"""The weight-sharing supernet: one set of weights per operation *and* per input it may read (Method 11).

An architecture is one path; only its operations run. State-dict names are the authors'.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers.nao_v2.networks.architectures import NODES, SPACES, Architecture, edges, loose_ends
from papers.nao_v2.networks.operations import DropPath, FactorizedReduce, ReluConvBn, initialise, pool2d


class SharedNorm(nn.Module):
    """BN with scale and shift per input, and one set of running statistics."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.ParameterList(nn.Parameter(torch.ones(channels)) for _ in range(inputs))
        self.bias = nn.ParameterList(nn.Parameter(torch.zeros(channels)) for _ in range(inputs))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, source: int, batch_statistics: bool) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight[source], self.bias[source], batch_statistics, 0.1, 1e-5
        )


def norm(bn: nn.BatchNorm2d, x: Tensor, batch_statistics: bool) -> Tensor:
    """A plain BN with batch statistics on demand (running statistics are updated then, in eval mode too)."""
    return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, batch_statistics, 0.1, bn.eps)


def _weights(inputs: int, *shape: int) -> nn.ParameterList:
    return nn.ParameterList(nn.Parameter(torch.empty(*shape)) for _ in range(inputs))


class SharedSeparable(nn.Module):
    """Separable convolution, twice, with weights per input."""

    def __init__(self, inputs: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.kernel, self.channels = kernel, channels
        self.W1_depthwise = _weights(inputs, channels, 1, kernel, kernel)
        self.W1_pointwise = _weights(inputs, channels, channels, 1, 1)
        self.bn1 = SharedNorm(inputs, channels)
        self.W2_depthwise = _weights(inputs, channels, 1, kernel, kernel)
        self.W2_pointwise = _weights(inputs, channels, channels, 1, 1)
        self.bn2 = SharedNorm(inputs, channels)

    def forward(self, x: Tensor, relu: Tensor, source: int, stride: int, batch_statistics: bool) -> Tensor:
        pad = self.kernel // 2
        out = F.conv2d(relu, self.W1_depthwise[source], None, stride, pad, 1, self.channels)
        out = self.bn1(F.conv2d(out, self.W1_pointwise[source]), source, batch_statistics)
        out = F.conv2d(F.relu(out), self.W2_depthwise[source], None, 1, pad, 1, self.channels)
        return self.bn2(F.conv2d(out, self.W2_pointwise[source]), source, batch_statistics)


class SharedDilated(nn.Module):
    """Dilated separable convolution, once, with weights per input."""

    def __init__(self, inputs: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.kernel, self.channels = kernel, channels
        self.W_depthwise = _weights(inputs, channels, 1, kernel, kernel)
        self.W_pointwise = _weights(inputs, channels, channels, 1, 1)
        self.bn = SharedNorm(inputs, channels)

    def forward(self, x: Tensor, relu: Tensor, source: int, stride: int, batch_statistics: bool) -> Tensor:
        pad = 2 * (self.kernel // 2)
        out = F.conv2d(relu, self.W_depthwise[source], None, stride, pad, 2, self.channels)
        return self.bn(F.conv2d(out, self.W_pointwise[source]), source, batch_statistics)


class SharedPool(nn.Module):
    """Pooling has no weights."""

    def __init__(self, kind: str, kernel: int) -> None:
        super().__init__()
        self.kind, self.kernel = kind, kernel

    def forward(self, x: Tensor, relu: Tensor, source: int, stride: int, batch_statistics: bool) -> Tensor:
        return pool2d(x, self.kind, self.kernel, stride)


class SharedZero(nn.Module):
    """Multiply by 0, strided slicing."""

    def forward(self, x: Tensor, relu: Tensor, source: int, stride: int, batch_statistics: bool) -> Tensor:
        return x[:, :, ::stride, ::stride] * 0.0


class SharedIdentity(nn.Module):
    """Identity; in a reduction cell states 0 and 1 pass a factorized reduction of their own."""

    def __init__(self, channels: int, reduction: bool) -> None:
        super().__init__()
        if reduction:
            self.reduce = nn.ModuleList(FactorizedReduce(channels, channels) for _ in range(2))

    def forward(self, x: Tensor, relu: Tensor, source: int, stride: int, batch_statistics: bool) -> Tensor:
        if stride == 1:
            return x
        module = cast(FactorizedReduce, self.reduce[source])
        return norm(module.bn, module.halves(x), batch_statistics)


def build_shared(name: str, inputs: int, channels: int, reduction: bool) -> nn.Module:
    """The weight-sharing form of an operation."""
    if name == "identity":
        return SharedIdentity(channels, reduction)
    if name == "zero":
        return SharedZero()
    if name.startswith(("avg", "max")):
        return SharedPool(name[:3], int(name[3]))
    return (SharedSeparable if name.startswith("sep") else SharedDilated)(inputs, channels, int(name[3]))


class SharedNode(nn.Module):
    """All operations for the first and, separately, for the second operand."""

    def __init__(self, names: tuple[str, ...], inputs: int, channels: int, reduction: bool) -> None:
        super().__init__()
        self.x_op = nn.ModuleList(build_shared(n, inputs, channels, reduction) for n in names)
        self.y_op = nn.ModuleList(build_shared(n, inputs, channels, reduction) for n in names)


class SharedCombine(nn.Module):
    """ReLU, 1x1 convolution whose weight is the concatenation of the loose ends' c x c slices, BN."""

    def __init__(self, states: int, channels: int) -> None:
        super().__init__()
        self.w = _weights(states, channels, channels, 1, 1)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, loose: list[int], batch_statistics: bool) -> Tensor:
        weight = torch.cat([self.w[state] for state in loose], 1)
        return norm(self.bn, F.conv2d(F.relu(x), weight), batch_statistics)


class SharedCalibration(nn.Module):
    """As in derived networks; all cell outputs have the cell's width, so sizes are the same for all paths."""

    def __init__(self, before: tuple[int, int], previous: tuple[int, int], channels: int) -> None:
        super().__init__()
        (h0, c0), (h1, c1) = before, previous
        self.preprocess_x: FactorizedReduce | ReluConvBn | None = None
        if h0 != h1:
            self.preprocess_x = FactorizedReduce(c0, channels)
        elif c0 != channels:
            self.preprocess_x = ReluConvBn(c0, channels)
        self.preprocess_y = ReluConvBn(c1, channels) if c1 != channels else None

    def forward(self, s0: Tensor, s1: Tensor, batch_statistics: bool) -> tuple[Tensor, Tensor]:
        if self.preprocess_x is not None:
            x, relu = self.preprocess_x, F.relu(s0)
            s0 = norm(x.bn, x.halves(relu) if isinstance(x, FactorizedReduce) else x.conv(relu), batch_statistics)
        if self.preprocess_y is not None:
            s1 = norm(self.preprocess_y.bn, self.preprocess_y.conv(F.relu(s1)), batch_statistics)
        return s0, s1


class SharedCell(nn.Module):
    """One cell of the supernet."""

    def __init__(
        self, names: tuple[str, ...], nodes: int, index: int, before: tuple[int, int], previous: tuple[int, int],
        channels: int, reduction: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.index, self.reduction, self.names = index, reduction, names
        self.ops = nn.ModuleList(SharedNode(names, node + 2, channels, reduction) for node in range(nodes))
        self.maybe_calibrate_size = SharedCalibration(before, previous, channels)
        if reduction:
            self.fac_1 = FactorizedReduce(channels, channels)
            self.fac_2 = FactorizedReduce(channels, channels)
        self.final_combine_conv = SharedCombine(nodes + 2, channels)

    def forward(
        self, s0: Tensor, s1: Tensor, cell: tuple[int, ...], drop: DropPath | None, batch_statistics: bool
    ) -> Tensor:
        states = list(self.maybe_calibrate_size(s0, s1, batch_statistics))
        relus: dict[int, Tensor] = {}  # of a state: the same for all its readers, computed once
        pooled: dict[tuple[int, int], Tensor] = {}
        for number, (i1, o1, i2, o2) in enumerate(edges(cell)):
            total = None
            node = cast(SharedNode, self.ops[number])
            for operand, (ops, state, kind) in enumerate(((node.x_op, i1, o1), (node.y_op, i2, o2))):
                stride = 2 if self.reduction and state < 2 else 1
                op = ops[kind]
                if isinstance(op, SharedPool):
                    if (state, kind) not in pooled:
                        pooled[state, kind] = op(states[state], states[state], state, stride, batch_statistics)
                    out = pooled[state, kind]
                else:
                    if state not in relus and isinstance(op, SharedSeparable | SharedDilated):
                        relus[state] = F.relu(states[state])
                    out = op(states[state], relus.get(state, states[state]), state, stride, batch_statistics)
                if drop is not None:
                    out = drop(out, self.index, number, operand, kind)
                total = out if total is None else total + out
            states.append(total)
        loose = loose_ends(cell)
        if self.reduction:  # these two do not hear of ``batch_statistics``: running statistics in eval mode
            states[:2] = [
                fac(s) if k in loose else s for k, (fac, s) in enumerate(zip((self.fac_1, self.fac_2), states))
            ]
        return self.final_combine_conv(torch.cat([states[k] for k in loose], 1), loose, batch_statistics)


class Supernet(nn.Module):
    """All architectures in one: 3 ``layers`` + 2 cells. ``forward(x, architecture)`` -> logits [N, classes].

    bn_train: the path's BNs use batch statistics (and update running ones) in eval mode too; it does not reach the stem
    and the two reductions of loose inputs.
    """

    def __init__(
        self, *, channels: int = 20, layers: int = 3, classes: int = 10, space: str = "small", nodes: int = NODES,
        dropout_keep: float = 1.0, generator: torch.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.names, self.layers = SPACES[space], layers
        self.drop_path: DropPath | None = None
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels))
        before = previous = (32, 3 * channels)
        width, self.cells_total = channels, 3 * layers + 2
        self.cells = nn.ModuleList()
        for index in range(self.cells_total):
            reduction = index in (layers, 2 * layers + 1)
            width *= 2 if reduction else 1
            self.cells.append(SharedCell(self.names, nodes, index, before, previous, width, reduction))
            before, previous = previous, (previous[0] // 2 if reduction else previous[0], width)
        self.dropout = nn.Dropout(1 - dropout_keep)
        self.classifier = nn.Linear(width, classes)
        initialise(self, generator)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, architecture: Architecture, bn_train: bool = False) -> Tensor:
        batch_statistics = self.training or bn_train
        drop = self.drop_path if self.training else None
        s0 = s1 = self.stem(x.contiguous(memory_format=torch.channels_last))
        for module in self.cells:
            cell = cast(SharedCell, module)
            s0, s1 = s1, cell(s0, s1, architecture[cell.reduction], drop, batch_statistics)
        return self.classifier(self.dropout(s1.mean((2, 3))))


def identity_operations(space: str) -> frozenset[int]:
    """Operations without drop path in the supernet at publication: identity, and zero in the middle space."""
    return frozenset(i for i, name in enumerate(SPACES[space]) if name in ("identity", "zero"))
