"""The supernet (all choices side by side) and the derived network of one path, over the same layout."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from papers.cream.networks.architectures import SKIP, ChoicePath
from papers.cream.networks.blocks import (
    ConvBnAct,
    DepthwiseSeparable,
    InvertedResidual,
    ResidualUnit,
    build_block,
    convolution,
    global_pool,
    initialise,
)
from papers.cream.networks.layout import PUBLISHED_LAYOUT, Layout, NetworkSpec, network_spec


class Frame(nn.Module):
    """Stem and head around ``blocks``; subclasses say what happens in between."""

    blocks: nn.ModuleList

    def __init__(self, layout: Layout, blocks: nn.ModuleList, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layout, self.classes, self.dropout = layout, classes, dropout
        self.conv_stem = convolution(3, layout.stem, 3, 2)
        self.bn1 = nn.BatchNorm2d(layout.stem)
        self.blocks = blocks
        self.conv_head = convolution(layout.pooled, layout.features, bias=True)
        self.classifier = nn.Linear(layout.features, classes)

    def stem(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, stem, H / 2, W / 2]."""
        return F.silu(self.bn1(self.conv_stem(x)))

    def head_features(self, x: Tensor) -> Tensor:
        """Global pool -> 1x1 convolution with bias, no BN -> swish -> [B, features]."""
        return F.silu(self.conv_head(global_pool(x, self.layout.pool))).flatten(1)

    def head(self, x: Tensor) -> Tensor:
        """[B, last, h, w] -> logits [B, classes]."""
        features = self.head_features(x)
        if self.dropout:
            features = F.dropout(features, self.dropout, self.training)
        return self.classifier(features)


class DerivedNetwork(Frame):
    """One path as a network of its own ("child"). Input [B, 3, H, W], output logits [B, classes]."""

    def __init__(self, spec: NetworkSpec, dropout: float = 0.0) -> None:
        blocks = nn.ModuleList(nn.Sequential(*(build_block(block) for block in stage)) for stage in spec.stages)
        super().__init__(spec.layout, blocks, spec.classes, dropout)
        self.spec = spec
        initialise(self)

    def trunk(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, last, H / 32, W / 32]."""
        x = self.stem(x)
        for stage in self.blocks:
            x = stage(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))


def derive(
    path: ChoicePath, classes: int = 1000, layout: Layout = PUBLISHED_LAYOUT, single_block_default: bool = True,
    dropout: float = 0.0, repeat_stage3: bool = False,
) -> DerivedNetwork:  # fmt: skip
    """The derived network of a path, freshly initialised (see ``layout.network_spec`` for the switches)."""
    return DerivedNetwork(network_spec(path, classes, layout, single_block_default, repeat_stage3), dropout)


CONVOLUTION_THEN_NORM: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    DepthwiseSeparable: (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    InvertedResidual: (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
    ConvBnAct: (("conv", "bn1"),),
    ResidualUnit: (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
    DerivedNetwork: (("conv_stem", "bn1"),),
}


def placed(net: DerivedNetwork, device: torch.device | str = "cpu") -> DerivedNetwork:
    """The network on a device, its weights channels last as its images are."""
    return net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def folded(net: DerivedNetwork) -> DerivedNetwork:
    """A copy in eval mode with every batch normalisation folded away: w' = w g / sqrt(var + eps), b' likewise.

    The same outputs in fewer passes over memory, for evaluation.
    """
    result = copy.deepcopy(net).eval()
    for module in result.modules():
        for conv, norm in CONVOLUTION_THEN_NORM.get(type(module), ()):
            setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
            setattr(module, norm, nn.Identity())
    return result


class Supernet(Frame):
    """All choices of every position as separate modules ``blocks.<stage>.<position>.<choice>``, plus the meta layer.

    built: positions of stages 1 to 5. meta_layer: the meta-network M (eq. 3), one linear unit over slice x classes
    probability differences. ``forward(x, path)`` runs one path; entries of -1 are left out, missing entries too.
    """

    def __init__(self, built: list[int], classes: int, slice_: int = 4, layout: Layout = PUBLISHED_LAYOUT) -> None:
        stages = [[[layout.first_block()]]]
        for number, count in enumerate(built, start=1):
            stages.append(
                [[layout.choice(number, place == 0, c) for c in range(layout.choices)] for place in range(count)]
            )
        stages.append([[layout.last_block()]])
        blocks = nn.ModuleList(
            nn.ModuleList(nn.ModuleList(build_block(spec) for spec in choices) for choices in stage) for stage in stages
        )
        super().__init__(layout, blocks, classes)
        self.slice = slice_
        self.meta_layer = nn.Linear(slice_ * classes, 1)
        initialise(self)

    def path_blocks(self, path: ChoicePath) -> Iterator[nn.Module]:
        """The modules of a path, in order."""
        for stage, entries in zip(self.blocks, path, strict=True):
            for position, choice in zip(cast(nn.ModuleList, stage), entries, strict=False):
                if choice != SKIP:
                    yield cast(nn.ModuleList, position)[choice]

    def forward(self, x: Tensor, path: ChoicePath) -> Tensor:
        x = self.stem(x)
        for block in self.path_blocks(path):
            x = block(x)
        return self.head(x)

    def path_parameters(self, path: ChoicePath) -> list[nn.Parameter]:
        """w_a, the weights of a path: stem, stem BN, head, classifier, then the chosen blocks in path order."""
        outer: list[nn.Module] = [self.conv_stem, self.bn1, self.conv_head, self.classifier]
        return [p for module in (*outer, *self.path_blocks(path)) for p in module.parameters()]

    def path_norms(self, path: ChoicePath) -> list[nn.BatchNorm2d]:
        """The batch-normalisation layers a path runs through."""
        modules = [self.bn1, *(m for block in self.path_blocks(path) for m in block.modules())]
        return [m for m in modules if isinstance(m, nn.BatchNorm2d)]

    def meta_parameters(self) -> list[nn.Parameter]:
        """theta: weight and bias of the meta layer."""
        return list(self.meta_layer.parameters())

    def meta_score(self, difference: Tensor) -> Tensor:
        """u = W . flatten(difference) + b for a difference [slice, classes] of probabilities; a scalar tensor."""
        return self.meta_layer(difference.reshape(1, -1)).squeeze()
