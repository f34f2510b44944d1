"""Scoring a path with the supernet's shared weights: recalibrated batch normalisation, held-out images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from common.data.batches import Epochs
from common.train.loop import Metrics, evaluate
from papers.cream.network.architectures import Path
from papers.cream.network.layout import FlopsTable
from papers.cream.network.networks import Supernet


def outside(minimum: float, maximum: float) -> str:
    """What is said when the best of ``score_paths`` is not ``inside``."""
    return f"no scored path lies within {minimum:g} to {maximum:g} MFLOPs"


@contextmanager
def recalibrated(net: Supernet, path: Path, batches: list[Tensor]) -> Iterator[None]:
    """Inside, the path's running statistics are the plain averages over ``batches``; afterwards the old ones return."""
    layers = net.path_norms(path) if batches else []
    kept = [(m.running_mean.clone(), m.running_var.clone(), m.num_batches_tracked.clone()) for m in layers]  # type: ignore[union-attr, operator]
    momenta = [m.momentum for m in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # cumulative average
    training = net.training
    net.train()
    try:
        with torch.no_grad():
            for x in batches:
                net(x, path)
        net.train(training)
        yield
    finally:
        net.train(training)
        for layer, momentum, (mean, var, count) in zip(layers, momenta, kept, strict=True):
            layer.momentum = momentum
            layer.running_mean.copy_(mean)  # type: ignore[union-attr]
            layer.running_var.copy_(var)  # type: ignore[union-attr]
            layer.num_batches_tracked.copy_(count)  # type: ignore[union-attr]


def path_error(net: Supernet, path: Path, test: Epochs, device: torch.device) -> Metrics:
    """Loss and errors of a path in eval mode with the statistics as they are."""
    return evaluate(net, test.epoch(0), device, forward=lambda x: net(x, path))


def score_paths(
    net: Supernet, paths: list[Path], table: FlopsTable, calibration: list[Tensor], test: Epochs, device: torch.device,
    window: tuple[float, float],
) -> list[dict[str, Any]]:  # fmt: skip
    """Every path with its MFLOPs, whether it lies in the window, and its error after recalibration; best first.

    Paths outside the window rank behind those inside; ties go to the cheaper path.
    """
    rows: list[dict[str, Any]] = []
    for path in paths:
        with recalibrated(net, path, calibration):
            found = path_error(net, path, test, device).as_dict()
        flops = table.flops(path)
        rows.append({"path": path, "mflops": flops, "inside": window[0] <= flops <= window[1], **found})
    return sorted(rows, key=lambda r: (not r["inside"], r["top1_error_percent"], r["loss"], r["mflops"]))
