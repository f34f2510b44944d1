"""The networks derived from a genotype of the DARTS space, with the stem for CIFAR or for ImageNet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from common.spaces.darts.genotype import Genotype
from common.spaces.darts.norm import sharpen
from common.spaces.darts.operations import OPS, FactorizedReduce, Identity, ReLUConvBN, StartsWithReLU, drop_path


def reductions(layers: int) -> tuple[int, int]:
    """Positions of the two reduction cells, L // 3 and 2 L // 3."""
    return layers // 3, 2 * layers // 3


def preprocess(c_before: int, c_last: int, c: int, after_reduction: bool, affine: bool) -> tuple[nn.Module, nn.Module]:
    """The two input blocks of a cell: the older input is halved in size when the previous cell was a reduction."""
    older = FactorizedReduce(c_before, c, affine) if after_reduction else ReLUConvBN(c_before, c, affine=affine)
    return older, ReLUConvBN(c_last, c, affine=affine)


class Cell(nn.Module):
    """A derived cell: [B, *, H, W] twice -> [B, len(concat) c, H', W']."""

    def __init__(
        self, genotype: Genotype, c_before: int, c_last: int, c: int, reduction: bool, after_reduction: bool
    ) -> None:
        super().__init__()
        self.preprocess0, self.preprocess1 = preprocess(c_before, c_last, c, after_reduction, affine=True)
        pairs = genotype.reduce if reduction else genotype.normal
        self.concat = genotype.reduce_concat if reduction else genotype.normal_concat
        self.reduction = reduction
        self.states = [state for _, state in pairs]
        self._ops = nn.ModuleList(OPS[op](c, 2 if reduction and state < 2 else 1, True) for op, state in pairs)
        self.ops: list[Any] = list(self._ops)

    def forward(self, before: Tensor, last: Tensor, drop: float = 0.0, masks: Iterator[Tensor] | None = None) -> Tensor:
        """``drop`` > 0 drops op outputs per sample (identities excepted); ``masks`` gives the keep-bits in order."""
        states = [self.preprocess0(before), self.preprocess1(last)]
        rectified: dict[int, Tensor] = {}  # the ReLU of a state is computed once for all that start with it
        for slot in range(0, len(self._ops), 2):
            outputs = []
            for k in (slot, slot + 1):
                op, source = self.ops[k], self.states[k]
                if isinstance(op, StartsWithReLU):
                    if source not in rectified:
                        rectified[source] = torch.relu(states[source])
                    out = op.after_relu(rectified[source])
                else:
                    out = op(states[source])
                if drop > 0 and not isinstance(self._ops[k], Identity):
                    out = drop_path(out, drop, next(masks) if masks is not None else None)
                outputs.append(out)
            states.append(outputs[0] + outputs[1])
        return torch.cat([states[i] for i in self.concat], dim=1)


class AuxiliaryHead(nn.Module):
    """Second classifier of training; CIFAR: 8 x 8 input, pool stride 3; ImageNet: 7 x 7, stride 2, no second norm."""

    def __init__(self, channels: int, classes: int, imagenet: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReLU(),
            nn.AvgPool2d(5, stride=2 if imagenet else 3, padding=0, count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
        ]
        if not imagenet:
            layers.append(nn.BatchNorm2d(768))
        self.features = nn.Sequential(*layers, nn.ReLU())
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 8, 8] or [B, C, 7, 7] -> logits [B, classes]."""
        return self.classifier(self.features(x).flatten(1))


class _Derived(nn.Module):
    """What both derived networks share: the cells, the auxiliary head, the classifier."""

    auxiliary_head: AuxiliaryHead | None

    def _build(
        self, genotype: Genotype, c: int, classes: int, layers: int, auxiliary: bool, widths: tuple[int, int],
        after_reduction: bool, imagenet: bool,
    ) -> None:  # fmt: skip
        before, last = widths
        self.cells = nn.ModuleList()
        self.drop_path_prob = 0.0
        self.auxiliary_at = reductions(layers)[1]
        aux_width = 0
        for i in range(layers):
            reduction = i in reductions(layers)
            c *= 2 if reduction else 1
            self.cells.append(Cell(genotype, before, last, c, reduction, after_reduction))
            concat = genotype.reduce_concat if reduction else genotype.normal_concat
            before, last, after_reduction = last, len(concat) * c, reduction
            if i == self.auxiliary_at:
                aux_width = last
        if auxiliary:
            self.auxiliary_head = AuxiliaryHead(aux_width, classes, imagenet)
        else:
            self.auxiliary_head = None
        self.global_pooling: nn.Module = nn.AvgPool2d(7) if imagenet else nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, classes)
        sharpen(self)  # 14 to 20 layers of batch norm magnify rounding; search networks are not as deep
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _run(self, before: Tensor, last: Tensor, masks: Sequence[Tensor] | None) -> tuple[Tensor, Tensor | None]:
        drop = self.drop_path_prob if self.training else 0.0
        bits = iter(masks) if masks is not None else None
        auxiliary = None
        for i, cell in enumerate(self.cells):
            before, last = last, cell(before, last, drop, bits)
            if i == self.auxiliary_at and self.training and self.auxiliary_head is not None:
                auxiliary = self.auxiliary_head(last)
        return self.classifier(self.global_pooling(last).flatten(1)), auxiliary


class NetworkCIFAR(_Derived):
    """Derived network for 32 x 32 images: returns (logits, auxiliary logits or None)."""

    def __init__(self, genotype: Genotype, c: int = 36, classes: int = 10, layers: int = 20, auxiliary: bool = False):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * c, 3, padding=1, bias=False), nn.BatchNorm2d(3 * c))
        self._build(genotype, c, classes, layers, auxiliary, (3 * c, 3 * c), False, imagenet=False)

    def forward(self, x: Tensor, masks: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor | None]:
        """x [B, 3, H, W], H and W multiples of 4 -> logits [B, classes]; ``masks`` fixes the drop-path bits."""
        stem = self.stem(x.contiguous(memory_format=torch.channels_last))
        return self._run(stem, stem, masks)


class NetworkImageNet(_Derived):
    """Derived network for 224 x 224 images: returns (logits, auxiliary logits or None)."""

    def __init__(self, genotype: Genotype, c: int = 48, classes: int = 1000, layers: int = 14, auxiliary: bool = False):
        super().__init__()
        self.stem0 = nn.Sequential(
            nn.Conv2d(3, c // 2, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(c // 2), nn.ReLU(),
            nn.Conv2d(c // 2, c, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(c),
        )  # fmt: skip
        self.stem1 = nn.Sequential(nn.ReLU(), nn.Conv2d(c, c, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(c))
        self._build(genotype, c, classes, layers, auxiliary, (c, c), True, imagenet=True)

    def forward(self, x: Tensor, masks: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor | None]:
        """x [B, 3, 224, 224] -> logits [B, classes]; ``masks`` fixes the drop-path bits."""
        stem0 = self.stem0(x.contiguous(memory_format=torch.channels_last))
        return self._run(stem0, self.stem1(stem0), masks)


def derived(
    genotype: Genotype, imagenet: bool, classes: int, channels: int, layers: int, auxiliary: bool = False
) -> NetworkCIFAR | NetworkImageNet:
    """The network of a genotype in its CIFAR or its ImageNet form; it returns (logits, auxiliary logits or None)."""
    form = NetworkImageNet if imagenet else NetworkCIFAR
    return form(genotype, channels, classes, layers, auxiliary)
