"""Scoring paths with the supernet's shared weights: re-calibrated batch normalisation, held-out images (Method 10)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from common.data.batches import Epochs
from common.data.parts import take
from common.run import distributed
from common.run.distributed import firsts
from common.run.progress import shows, watched
from common.train.batchnorm import kept, renew
from common.train.loop import Metrics, evaluate
from papers.cream.data.batches import calibration_batches, plain_batches
from papers.cream.data.sets import Parts
from papers.cream.method.space import Space
from papers.cream.networks.architectures import ChoicePath
from papers.cream.networks.networks import Supernet
from papers.cream.settings import Rescoring, Search

Bounds = tuple[float, float]  # MFLOPs from, to


def outside(bounds: Bounds) -> str:
    """What is said when the best of ``score_paths`` is not ``inside``."""
    return f"no scored path lies within {bounds[0]:g} to {bounds[1]:g} MFLOPs"


def share_size(settings: Search, processes: int) -> int:
    """Images of a batch that only looks at paths: one share, as much as one GPU of the original held.

    processes: those that the search had, which say its shares where ``parts`` does not.
    """
    return settings.batch_size // (settings.parts or processes)


@contextmanager
def recalibrated(net: Supernet, path: ChoicePath, batches: list[Tensor]) -> Iterator[None]:
    """Inside, the path's running statistics are the plain averages over ``batches``; afterwards the old ones return."""
    norms = net.path_norms(path) if batches else []
    training = net.training
    with kept(norms):
        net.train()
        with torch.no_grad():
            renew(norms, batches, lambda images: net(images, path))
        net.train(training)
        yield


def path_error(net: Supernet, path: ChoicePath, test: Epochs) -> Metrics:
    """Loss and errors of a path in eval mode with the statistics as they are."""
    return evaluate(net, shows(test, "test"), device_of(net), forward=lambda x: net(x, path))


def device_of(net: Supernet) -> torch.device:
    """Where a supernet's weights are."""
    return net.meta_layer.weight.device


def score_paths(
    net: Supernet, paths: list[ChoicePath], space: Space, bounds: Bounds, calibration: list[Tensor], test: Epochs
) -> list[dict[str, Any]]:
    """Every path with its MFLOPs, whether it lies in ``bounds``, and its error after re-calibration; best first.

    Paths outside rank behind those inside; ties go to the cheaper path. One that a board holds twice is scored once.
    """
    rows: list[dict[str, Any]] = []
    first = firsts(str(path) for path in paths)
    for number, path in enumerate(watched(paths, len(paths), "path")):
        if first[number] < number:
            rows.append(dict(rows[first[number]]))
            continue
        with recalibrated(net, path, calibration):
            found = path_error(net, path, test).as_dict()
        flops = space.mflops(path)
        rows.append({"path": path, "mflops": flops, "inside": bounds[0] <= flops <= bounds[1], **found})
    return sorted(rows, key=lambda r: (not r["inside"], r["top1_error_percent"], r["loss"], r["mflops"]))


def scoring_batches(
    parts: Parts, rule: Rescoring, share: int, resolution: int, device: torch.device, workers: int
) -> tuple[list[Tensor], Epochs]:
    """(batches of ``share`` training images for statistics, batches of held-out images to score paths on).

    Where the search held none out, training images are scored on.
    """
    calibration = calibration_batches(parts.train, rule.recalibrate_batches, share, resolution, device, workers)
    chosen = take(parts.held_out if parts.held_out is not None else parts.train, rule.select_images, "--select-images")
    return calibration, plain_batches(chosen, 4 * share * distributed.world_size(), resolution, device, workers)
