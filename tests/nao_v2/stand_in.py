"""A network in place of the supernet and of derived ones, where only the loops around them are looked at.

It has what loops can get wrong: weights that only some architectures use, normalisation by batch or by running
statistics, drop path, dropout, a head for training alone, and weights drawn from two streams. It takes no time.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers.nao_v2.networks.architectures import Architecture, Shape
from papers.nao_v2.networks.operations import DropPath

WIDTH = 8


class StandIn(nn.Module):
    """``told``: with what it was made, beside the generator."""

    def __init__(
        self, architecture: Architecture | None = None, shape: Shape | None = None, *, generator: torch.Generator,
        dropout_keep: float = 1.0, auxiliary: bool = False, **told: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.told = {"shape": shape, "dropout_keep": dropout_keep, "auxiliary": auxiliary, **told}
        self.architecture, self.auxiliary = architecture, auxiliary
        layers, classes = (shape.layers, shape.classes) if shape else (told["layers"], told["classes"])
        self.cells_total, self.drop_path = 3 * layers + 2, None
        self.stem, self.norm = nn.Linear(48, WIDTH, bias=False), nn.BatchNorm1d(WIDTH)
        self.edges = nn.ParameterList([nn.Parameter(torch.ones(1, WIDTH)) for _ in range(2 * 5 * 2 * 5)])
        self.classifier, self.aside = nn.Linear(WIDTH, classes), nn.Linear(WIDTH, classes)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0.0, 0.4, generator=generator)
        self.dropout = nn.Dropout(1 - dropout_keep)
        self.drop_path: DropPath | None

    def forward(self, x: Tensor, architecture: Architecture | None = None, bn_train: bool = False) -> Any:
        norm = self.norm
        by_batch = self.training or bn_train
        s = self.stem(F.avg_pool2d(x, 8).flatten(1))
        s = F.batch_norm(s, norm.running_mean, norm.running_var, norm.weight, norm.bias, by_batch, 0.1)
        for kind, cell in enumerate(architecture or self.architecture or ()):
            for node in range(5):
                for operand in (0, 1):
                    op = cell[4 * node + 2 * operand + 1]
                    out = torch.tanh(s * self.edges[((kind * 5 + node) * 2 + operand) * 5 + op])
                    if self.training and self.drop_path is not None:
                        out = self.drop_path(out[..., None, None], self.cells_total - 1, node, operand, op)[..., 0, 0]
                    s = s + out / (1 + cell[4 * node + 2 * operand])
        logits = self.classifier(self.dropout(s))
        return (logits, self.aside(torch.relu(s))) if self.auxiliary and self.training else logits
