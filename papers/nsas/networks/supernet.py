"""The supernet of the DARTS space under tables, and its batch-norm statistics (Method 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from common.data.batches import Batches
from common.spaces.darts.supernet import Supernet
from common.train.batchnorm import renew
from papers.nsas.method.sampling import Architecture, encode


def build_supernet(channels: int, classes: int, layers: int) -> Supernet:
    """The DARTS-space search network."""
    return Supernet(channels, classes, layers)


def mixed(tables: Sequence[Tensor], kind: str) -> tuple[Tensor, Tensor]:
    """Weights of all operations from tables [14, 8]: as they are ("raw") or a softmax of each row ("softmax")."""
    normal, reduce = tables
    return (normal.softmax(-1), reduce.softmax(-1)) if kind == "softmax" else (normal, reduce)


def table_logits(model: nn.Module, x: Tensor, architecture: Architecture) -> Tensor:
    """Softmax of the 0/1 tables: every operation runs (the released form of 2019/20)."""
    return model(x, mixed([torch.from_numpy(encode(cell)) for cell in architecture], "softmax"))  # read as numbers


def norms_of(model: nn.Module) -> list[nn.Module]:
    """Batch norms of a network, in order."""
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def renew_statistics(model: nn.Module, forward: Callable[[Tensor], object], train: Batches, batches: int) -> None:
    """Batch-norm statistics under ``forward``: plain average over the first ``batches`` training batches."""
    model.train()
    images = (x for x, _ in islice(train.epoch(0), batches))
    renew(norms_of(model), images, forward)
