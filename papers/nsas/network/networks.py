"""The supernets of this paper, and running them on one architecture (Method 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from common.data.batches import Batches
from common.spaces.darts.supernet import Supernet
from common.spaces.nasbench201 import network as nasbench201
from common.train.batchnorm import renew
from papers.nsas.method.sampling import Architecture, encode

CIFAR_MEAN, CIFAR_STD = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
NB201_MEAN = tuple(v / 255 for v in (125.3, 123.0, 113.9))
NB201_STD = tuple(v / 255 for v in (63.0, 62.1, 66.7))


def build_supernet(channels: int, classes: int, layers: int) -> Supernet:
    """The DARTS-space search network."""
    return Supernet(channels, classes, layers)


def build_nb201_supernet(channels: int, cells: int, classes: int) -> nasbench201.Supernet:
    """The NAS-Bench-201 search network."""
    return nasbench201.Supernet(channels, cells, classes)


def build_nb201(code: str, channels: int = 16, cells: int = 5, classes: int = 10) -> nasbench201.Network:
    """The benchmark's network of one cell."""
    return nasbench201.Network([int(c) for c in code], channels, cells, classes)


def mixed(tables: Sequence[Tensor], kind: str) -> tuple[Tensor, Tensor]:
    """Weights of all operations from tables [14, 8]: as they are ("raw") or a softmax of each row ("softmax")."""
    normal, reduce = tables
    return (normal.softmax(-1), reduce.softmax(-1)) if kind == "softmax" else (normal, reduce)


def table_logits(model: nn.Module, x: Tensor, architecture: Architecture) -> Tensor:
    """Softmax of the 0/1 tables: every operation runs (the released form of 2019/20)."""
    return model(x, mixed([torch.from_numpy(encode(cell)).to(x.device) for cell in architecture], "softmax"))


def code_logits(model: nasbench201.Supernet, x: Tensor, code: Sequence[int]) -> Tensor:
    """NAS-Bench-201 supernet on one cell; -1 is an edge that is not there, which adds as little as ``none``."""
    return model.path(x, [max(0, int(k)) for k in code])


def weighted_logits(model: nasbench201.Supernet, x: Tensor, weights: Tensor, index) -> Tensor:
    """NAS-Bench-201 supernet with straight-through weights [6, 5]."""
    return model.path(x, [int(i) for i in index], weights)


def norms_of(model: nn.Module) -> list[nn.Module]:
    """Batch norms of a network, in order."""
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def renew_statistics(model: nn.Module, forward: Callable[[Tensor], object], train: Batches, batches: int) -> None:
    """Batch-norm statistics under ``forward``: plain average over the first ``batches`` training batches."""
    model.train()
    images = (x for x, _ in islice(train.epoch(0), batches))
    renew(norms_of(model), images, forward)
