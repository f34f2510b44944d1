"""Scoring architectures with a trained supernet, whose weights they share (Methods 4 and 7)."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import islice, repeat
from typing import Any

import torch
from torch import nn

from common.run.progress import shows
from common.train.batchnorm import renew
from common.train.loop import read
from common.train.losses import TopK, label_smoothing_cross_entropy
from papers.sgnas.method.sampling import trained_code
from papers.sgnas.networks.architectures import Ops
from papers.sgnas.networks.fixed_supernet import FixedSupernet
from papers.sgnas.networks.supernet import RowBatchNorm, Supernet


@torch.no_grad()
def score(fixed: FixedSupernet, paths: Iterable[Ops], batches: Any, epoch: int = 0) -> tuple[float, float]:
    """(mean smoothed loss, top-1 error in percent) over an epoch of batches, of all processes; one path per batch."""
    counter: TopK | None = None
    for (x, y), path in zip(shows(batches, "validate", epoch), paths):
        counter = counter or TopK(x.device)
        if len(y):
            logits = fixed.path(x, path)
            counter.add(logits, y, label_smoothing_cross_entropy(logits, y))
    assert counter is not None
    found = read(counter)
    return found.loss, found.top1_error


@torch.no_grad()
def recalibrated(supernet: Supernet, path: Ops, batches: Any, count: int) -> Supernet:
    """A copy whose running statistics, for what the path uses, are the plain average over ``count`` training batches.

    Not used by the authors. Each process normalises its share of a batch; the statistics are averaged. The given
    supernet is not changed.
    """
    fresh = copy.deepcopy(supernet).train()
    norms = [module for module in fresh.modules() if isinstance(module, RowBatchNorm | nn.BatchNorm2d)]
    inputs = (images for images, _ in islice(batches.epoch(0), count))
    renew(norms, inputs, lambda images: fresh(images, path))
    return fresh.eval()


class Scorer:
    """What scores architectures: the supernet as it is now or, for ``recalibrate`` batches, re-calibrated for each.

    active: the sampling of the supernet's paths: an architecture is scored under the code that this has trained.
    calibrating: training batches for the re-calibration.
    """

    def __init__(self, supernet: Supernet, active: str, calibrating: Any, recalibrate: int = 0) -> None:
        self.supernet, self.fixed = supernet, FixedSupernet(supernet)
        self.active, self.calibrating, self.recalibrate = active, calibrating, recalibrate

    def __call__(self, ops: Ops, batches: Any, epoch: int = 0) -> tuple[float, float]:
        """(mean smoothed loss, top-1 error in percent) of one architecture over an epoch of batches."""
        path, fixed = trained_code(ops, self.active), self.fixed
        if self.recalibrate:
            fixed = FixedSupernet(recalibrated(self.supernet, path, self.calibrating, self.recalibrate))
        return score(fixed, repeat(path), batches, epoch)
