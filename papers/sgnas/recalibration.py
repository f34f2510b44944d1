"""Re-estimating batch normalisation for one path before it is scored. Not used by the authors; off by default."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from papers.sgnas.supernet import Path, RowBatchNorm, Supernet


@torch.no_grad()
def recalibrated(supernet: Supernet, path: Path, batches: Any, count: int) -> Supernet:
    """A copy whose running statistics, for what the path uses, are the plain average over ``count`` training batches.

    The given supernet is not changed.
    """
    fresh = copy.deepcopy(supernet).train()
    norms = [m for m in fresh.modules() if isinstance(m, RowBatchNorm | nn.BatchNorm2d)]
    for number, (x, _) in enumerate(batches.epoch(0)):
        if number == count:
            break
        for norm in norms:  # weight 1 / (n + 1) for batch n: the running value is then the average so far
            norm.momentum = 1.0 / (number + 1)
        fresh(x, path)
    return fresh.eval()
