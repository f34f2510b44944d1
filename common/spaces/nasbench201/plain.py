"""The benchmark's network of a cell as a plain module: usual memory layout, nothing done in place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.spaces.nasbench201.network import Network


class PlainNetwork(Network):
    """Logits of ``Network``; same keys."""

    def __init__(self, code: Sequence[int], channels: int = 16, cells_per_stage: int = 5, classes: int = 10) -> None:
        super().__init__(code, channels, cells_per_stage, classes)
        self.lastact[1] = nn.ReLU()
        self.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W], H and W multiples of 4 -> logits [B, classes]."""
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        return self.head(x)[1]
