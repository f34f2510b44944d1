"""Blocks and layout of Cream's networks as numbers: sizes, parameters, operation counts (Method 13 and 14).

No torch here.

``NetworkSpec`` describes a derived network; ``Layout`` the dimensions that supernet and derived networks share. Every
count is a sum over ``layers()``, so that all counting conventions read the same list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import fsum

from papers.cream.networks.architectures import CHOICES, SKIP, ChoicePath

SMALLEST_INPUT = 32  # pixels; the networks halve the picture five times
SINGLE_BLOCK = ((3, 4), (5, 4), (3, 6), (3, 6), (5, 6))  # (kernel, expansion) a one-block stage 1..5 always gets


def round8(value: float) -> int:
    """Nearest multiple of 8, at least 8, never below 0.9 of the value."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


@dataclass(frozen=True)
class Layer:
    """One counted layer. size, out: side of the square input and output; groups, kernel, bias: of convolutions."""

    kind: str  # conv | bn | relu | pool | linear
    cin: int
    cout: int
    size: int
    out: int
    kernel: int = 1
    groups: int = 1
    bias: bool = False

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        if self.kind == "conv":
            return self.cout * (self.cin // self.groups * self.kernel**2 + self.bias)
        if self.kind == "linear":
            return self.cout * (self.cin + 1)
        return 2 * self.cout if self.kind == "bn" else 0

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and linear layers."""
        if self.kind == "conv":
            return self.out**2 * self.cout * (self.cin // self.groups) * self.kernel**2
        return self.cin * self.cout if self.kind == "linear" else 0

    @property
    def thop2020(self) -> int:
        """The convention of the published names: conv with bias, BN 2 per element, pool adds, linear."""
        if self.kind == "conv":
            return self.macs + self.bias * self.out**2 * self.cout
        if self.kind == "bn":
            return 2 * self.cin * self.size**2
        if self.kind == "pool":
            return self.cout * (self.size**2 + 1)
        return self.macs

    @property
    def ptflops(self) -> int:
        """The convention of the search's look-up table: also 1 per element of ReLU modules, pools by input."""
        if self.kind == "relu":
            return self.cin * self.size**2
        if self.kind == "pool":
            return self.cin * self.size**2
        if self.kind == "linear":
            return self.cin * self.cout + self.cout
        return self.thop2020


def _conv(
    cin: int, cout: int, size: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = False
) -> Layer:
    return Layer("conv", cin, cout, size, -(-size // stride), kernel, groups, bias)


def _bn(channels: int, size: int) -> Layer:
    return Layer("bn", channels, channels, size, size)


def _squeeze_excite(channels: int, size: int) -> list[Layer]:
    middle = round8(channels / 4)
    return [
        Layer("pool", channels, channels, size, 1),
        _conv(channels, middle, 1, bias=True),
        Layer("relu", middle, middle, 1, 1),
        _conv(middle, channels, 1, bias=True),
    ]


@dataclass(frozen=True)
class BlockSpec:
    """One block. kind: ``dwsep`` (D), ``mbconv`` (M), ``conv_bn_act`` (C) or ``resunit``."""

    kind: str
    kernel: int
    stride: int
    cin: int
    cout: int
    expand: int = 1

    @property
    def middle(self) -> int:
        """Expanded width of an inverted residual; inner width of a residual unit."""
        return self.cout // 4 if self.kind == "resunit" else round8(self.cin * self.expand)

    @property
    def skip(self) -> bool:
        """Whether its input is added to its output."""
        return self.stride == 1 and self.cin == self.cout and self.kind != "conv_bn_act"

    def layers(self, size: int) -> list[Layer]:
        """Its layers for a square input of the given side."""
        out, mid, k, s = -(-size // self.stride), self.middle, self.kernel, self.stride
        if self.kind == "conv_bn_act":
            return [_conv(self.cin, self.cout, size, k, s), _bn(self.cout, out)]
        if self.kind == "dwsep":
            return [
                _conv(self.cin, self.cin, size, k, s, self.cin), _bn(self.cin, out), *_squeeze_excite(self.cin, out),
                _conv(self.cin, self.cout, out), _bn(self.cout, out),
            ]  # fmt: skip
        if self.kind == "resunit":
            relu = lambda channels, side: Layer("relu", channels, channels, side, side)  # noqa: E731
            main = [
                _conv(self.cin, mid, size, bias=True), _bn(mid, size), relu(mid, size),
                _conv(mid, mid, size, 3, s, bias=True), _bn(mid, out), relu(mid, out),
                _conv(mid, self.cout, out, bias=True), _bn(self.cout, out),
            ]  # fmt: skip
            shortcut = [_conv(self.cin, self.cout, size, 1, s, bias=True), _bn(self.cout, out)]
            return main + (shortcut if self.cin != self.cout else []) + [relu(self.cout, out)]
        return [
            _conv(self.cin, mid, size), _bn(mid, size),
            _conv(mid, mid, size, k, s, mid), _bn(mid, out), *_squeeze_excite(mid, out),
            _conv(mid, self.cout, out), _bn(self.cout, out),
        ]  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Widths and strides shared by supernet and derived networks (published: those of the released code)."""

    stem: int = 16
    first: int = 16  # stage 0
    widths: tuple[int, ...] = (24, 40, 80, 96, 192)  # stages 1..5
    strides: tuple[int, ...] = (2, 2, 2, 1, 2)
    last: int = 320  # stage 6
    features: int = 1280
    pool: str = "avg"  # avg | max | avgmax | catavgmax
    resunit: bool = False  # append choice "bottleneck residual unit"
    dil_conv: bool = False  # append two inverted residuals (k3, k5) of 8 middle channels, without dilation

    def choice(self, stage: int, first: bool, choice: int) -> BlockSpec:
        """The block of a choice index in stages 1 to 5; only a stage's first block has the stride."""
        cout = self.widths[stage - 1]
        cin = cout if not first else (self.first if stage == 1 else self.widths[stage - 2])
        stride = self.strides[stage - 1] if first else 1
        if choice < len(CHOICES):
            kernel, expand = CHOICES[choice]
            return BlockSpec("mbconv", kernel, stride, cin, cout, expand)
        if self.dil_conv and choice < len(CHOICES) + 2:
            return BlockSpec("mbconv", (3, 5)[choice - len(CHOICES)], stride, cin, cout, 0)
        return BlockSpec("resunit", 3, stride, cin, cout)

    @property
    def choices(self) -> int:
        """Choices of a position."""
        return len(CHOICES) + 2 * self.dil_conv + self.resunit

    def first_block(self) -> BlockSpec:
        """The one block of stage 0."""
        return BlockSpec("dwsep", 3, 1, self.stem, self.first)

    def last_block(self) -> BlockSpec:
        """The one block of stage 6."""
        return BlockSpec("conv_bn_act", 1, 1, self.widths[-1], self.last)

    @property
    def pooled(self) -> int:
        """Channels behind the global pool."""
        return self.last * (2 if self.pool == "catavgmax" else 1)


PUBLISHED_LAYOUT = Layout()
VARIANTS = ("pool", "resunit", "dil_conv")  # what a search may change, and an architecture file carries


def variant_of(layout: Layout) -> dict[str, str | bool]:
    """What differs from the published layout among the search's own options: ``{}`` for the published space."""
    chosen = {name: getattr(layout, name) for name in VARIANTS}
    return {name: value for name, value in chosen.items() if value != getattr(PUBLISHED_LAYOUT, name)}


@dataclass(frozen=True)
class NetworkSpec:
    """A derived network: its blocks by stage, and the layout around them."""

    layout: Layout
    stages: tuple[tuple[BlockSpec, ...], ...]
    classes: int

    def layers(self, size: int) -> Iterator[Layer]:
        """All layers, stem to classifier, for a square picture."""
        layout = self.layout
        yield _conv(3, layout.stem, size, 3, 2)
        size = -(-size // 2)
        yield _bn(layout.stem, size)
        for block in (block for stage in self.stages for block in stage):
            yield from block.layers(size)
            size = -(-size // block.stride)
        yield Layer("pool", layout.last, layout.pooled, size, 1)
        yield _conv(layout.pooled, layout.features, 1, bias=True)
        yield Layer("linear", layout.features, self.classes, 1, 1)

    def count(self, quantity: str, size: int = 224) -> int:
        """Sum of ``parameters``, ``macs``, ``thop2020`` or ``ptflops`` over the layers."""
        return sum(getattr(layer, quantity) for layer in self.layers(size))

    def sizes(self, size: int) -> dict[str, int]:
        """What a result says about a network at an input size: parameters, multiply-adds, the published count."""
        return {
            "parameters": self.count("parameters"), "macs": self.count("macs", size),
            "macs_published": self.count("thop2020", size),
        }  # fmt: skip


def network_spec(
    path: ChoicePath, classes: int = 1000, layout: Layout = PUBLISHED_LAYOUT, single_block_default: bool = True,
    repeat_stage3: bool = False,
) -> NetworkSpec:  # fmt: skip
    """The derived network of a path.

    single_block_default: a stage with exactly one entry ignores it and builds ``SINGLE_BLOCK`` (the released
    retraining code, hence the published checkpoints); False: every entry counts, as in the supernet.
    repeat_stage3: a fourth entry of stage 3 builds two blocks (the lists of 2020).
    """
    stages: list[tuple[BlockSpec, ...]] = [(layout.first_block(),)]
    for number, entries in enumerate(path[1:6], start=1):
        blocks = [layout.choice(number, place == 0, entry) for place, entry in enumerate(entries) if entry != SKIP]
        if single_block_default and len(entries) == 1:
            kernel, expand = SINGLE_BLOCK[number - 1]
            blocks = [replace(blocks[0], kind="mbconv", kernel=kernel, expand=expand)]
        if repeat_stage3 and number == 3 and len(entries) == 4 and entries[3] != SKIP:
            blocks.append(blocks[-1])
        stages.append(tuple(blocks))
    return NetworkSpec(layout, (*stages, (layout.last_block(),)), classes)


class FlopsTable:
    """Look-up table of a supernet: ptflops counts in millions, measured at ``size`` (224 as released).

    mflops[stage][position][choice]; fixed = stem convolution, global pool and head convolution (stem BN and classifier
    are not counted). params: the same for parameters, where ``fixed`` holds stem and head convolution.
    """

    def __init__(self, positions: list[int], layout: Layout = PUBLISHED_LAYOUT, size: int = 224) -> None:
        self.size, half = size, -(-size // 2)
        stem = _conv(3, layout.stem, size, 3, 2)
        self.mflops: list[list[list[float]]] = []
        self.params: list[list[list[float]]] = []
        side = half
        for stage in range(7):
            rows, sizes = [], []
            for place in range(1 if stage in (0, 6) else positions[stage - 1]):
                specs = _choices_of(layout, stage, place)
                counted = [spec.layers(side) for spec in specs]
                rows.append([sum(layer.ptflops for layer in layers) / 1e6 for layers in counted])
                sizes.append([sum(layer.parameters for layer in layers) / 1e6 for layers in counted])
                side = -(-side // specs[0].stride)
            self.mflops.append(rows)
            self.params.append(sizes)
        pool = Layer("pool", layout.last, layout.pooled, side, 1)
        head = _conv(layout.pooled, layout.features, 1, bias=True)
        self.fixed = (stem.ptflops + pool.ptflops + head.ptflops) / 1e6
        self.params_fixed = (stem.parameters + head.parameters) / 1e6

    def flops(self, path: ChoicePath) -> float:
        """MFLOPs of a path, as the search ranks it."""
        return self.fixed + fsum(  # exact: the builtin sum rounds differently before and since Python 3.12
            self.mflops[stage][place][choice]
            for stage, entries in enumerate(path)
            for place, choice in enumerate(entries)
            if choice != SKIP
        )

    def parameters(self, path: ChoicePath) -> float:
        """Millions of parameters of a path by the same table."""
        return self.params_fixed + fsum(
            self.params[stage][place][choice]
            for stage, entries in enumerate(path)
            for place, choice in enumerate(entries)
            if choice != SKIP
        )


def _choices_of(layout: Layout, stage: int, place: int) -> list[BlockSpec]:
    if stage == 0:
        return [layout.first_block()]
    if stage == 6:
        return [layout.last_block()]
    return [layout.choice(stage, place == 0, choice) for choice in range(layout.choices)]
