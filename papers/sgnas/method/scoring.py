"""Re-estimating batch normalisation for one path before it is scored. Not used by the authors; off by default."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from common.train.batchnorm import average
from papers.sgnas.network.fixed_supernet import FrozenSupernet
from papers.sgnas.network.supernet import Path, RowBatchNorm, Supernet


@torch.no_grad()
def recalibrated(supernet: Supernet, path: Path, batches: Any, count: int) -> Supernet:
    """A copy whose running statistics, for what the path uses, are the plain average over ``count`` training batches.

    The given supernet is not changed. Each process normalises its share of a batch; the statistics are averaged.
    """
    fresh = copy.deepcopy(supernet).train()
    norms = [m for m in fresh.modules() if isinstance(m, RowBatchNorm | nn.BatchNorm2d)]
    for number, (x, _) in enumerate(batches.epoch(0)):
        if number == count:
            break
        for norm in norms:  # weight 1 / (n + 1) for batch n: the running value is then the average so far
            norm.momentum = 1.0 / (number + 1)
        if len(x):
            fresh(x, path)
        average(fresh, len(x))
    return fresh.eval()


def judge(supernet: Supernet, frozen: FrozenSupernet, path: Path, batches: Any, count: int) -> FrozenSupernet:
    """What scores a path: the fixed supernet, or one re-calibrated for this path when ``count`` is positive."""
    return FrozenSupernet(recalibrated(supernet, path, batches, count)) if count else frozen
