"""Parameters and multiply-adds of a derived network in closed form (Method 13); nothing is built.

FR(a, b) = RCB(a, b) = a b + 2 b;  SEP_k(c) = 2 (c k^2 + c^2) + 4 c;  DIL_k(c) = c k^2 + c^2 + 2 c. Pools cost nothing.
The auxiliary head is counted apart and never in ``parameters``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from papers.nao_v2.networks.architectures import SPACES, Architecture, Cell, Shape, edges, loose_ends


@dataclass(frozen=True)
class Size:
    """parameters: without auxiliary head; macs: convolutions and linear layer at the given image size, evaluation."""

    parameters: int
    parameters_with_auxiliary: int
    macs: int


def reduce_or_conv(c_in: int, c_out: int) -> int:
    """Factorized reduction, or ReLU-conv-BN: weights and the BN's two vectors."""
    return c_in * c_out + 2 * c_out


def operation_cost(name: str, c: int, stride: int, area_in: int, area_out: int) -> tuple[int, int]:
    """(parameters, multiply-adds) of one operation of width c; areas in pixels of its input and output map."""
    if name in ("zero",) or name.startswith(("avg", "max")):
        return 0, 0
    if name == "identity":
        return (reduce_or_conv(c, c), c * c * area_out) if stride == 2 else (0, 0)
    if name.startswith(("sep", "dil")):
        weights = c * int(name[3]) ** 2 + c * c
        repeats = 2 if name.startswith("sep") else 1
        return repeats * (weights + 2 * c), repeats * weights * area_out
    if name in ("conv1", "conv3"):
        weights = c * c * int(name[4]) ** 2
        return weights + 2 * c, weights * area_out
    weights = c * c * int(name[6])  # 1xk keeps the rows, kx1 strides over them
    middle = area_out if stride == 1 else round((area_in * area_out) ** 0.5)
    return 2 * (weights + 2 * c), weights * (middle + area_out)


@lru_cache(maxsize=65536)
def _cell(cell: Cell, space: str, c: int, reduction: bool, size_in: int, size_out: int) -> tuple[int, int, int]:
    """(parameters, multiply-adds, loose ends) of a cell's operations and final combination."""
    names, parameters, macs = SPACES[space], 0, 0
    for i1, o1, i2, o2 in edges(cell):
        for state, operation in ((i1, o1), (i2, o2)):
            halves = reduction and state < 2
            area = (size_in if halves else size_out) ** 2
            weights, work = operation_cost(names[operation], c, 2 if halves else 1, area, size_out**2)
            parameters, macs = parameters + weights, macs + work
    loose = loose_ends(cell)
    if reduction:
        halved = sum(1 for state in loose if state < 2)
        parameters += halved * reduce_or_conv(c, c)
        macs += halved * c * c * size_out**2
    return parameters, macs, len(loose)


def size_of(architecture: Architecture, shape: Shape = Shape(), image: int = 0) -> Size:
    """Size of the derived network (Method 13); ``image``: side of the (square) input, 0 for 32 (cifar) or 224."""
    c, layers, classes = shape.channels, shape.layers, shape.classes
    if shape.kind == "cifar":
        size = image or 32
        parameters, macs = 81 * c + 6 * c, 81 * c * size**2
        h0 = h1 = size
        c0 = c1 = 3 * c
    else:
        half = c // 2
        first = -(-(image or 224) // 2)
        h0 = -(-first // 2)
        h1 = -(-h0 // 2)
        parameters = 27 * half + 2 * half + 9 * half * c + 2 * c + 9 * c * c + 2 * c
        macs = 27 * half * first**2 + 9 * half * c * h0**2 + 9 * c * c * h1**2
        c0 = c1 = c
    auxiliary = 0
    for index in range(3 * layers + 2):
        reduction = index in (layers, 2 * layers + 1)
        c *= 2 if reduction else 1
        if h0 != h1 or c0 != c:
            parameters += reduce_or_conv(c0, c)
            macs += c0 * c * h1**2
        if c1 != c:
            parameters += reduce_or_conv(c1, c)
            macs += c1 * c * h1**2
        after = -(-h1 // 2) if reduction else h1
        weights, work, loose = _cell(architecture[reduction], shape.space, c, reduction, h1, after)
        parameters, macs = parameters + weights, macs + work
        (h0, c0), (h1, c1) = (h1, c1), (after, c * loose)
        if index == 2 * layers + 1:
            auxiliary = c1 * 128 + 2 * 128 + 4 * 128 * 768 + 2 * 768 + 768 * classes + classes
    parameters += c1 * classes + classes
    macs += c1 * classes
    return Size(parameters, parameters + auxiliary, macs)
