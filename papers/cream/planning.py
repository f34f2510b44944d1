"""``--plan``: steps, and rough time and memory, without running; and when to save under several processes."""

from __future__ import annotations

import time
from typing import Any

import torch

from common import distributed
from papers.cream.layout import NetworkSpec
from papers.cream.networks import DerivedNetwork

SAVE_CHECK = 20  # steps between the questions "is any process due to save?"


def due_everywhere(run: Any, step: int) -> bool:
    """Whether to save now; with several processes all must agree, since saving is a common act."""
    if distributed.world_size() == 1:
        return bool(run.due())
    if step % SAVE_CHECK:
        return False
    flag = torch.tensor([float(run.due())])
    distributed.all_reduce_mean([flag])
    return bool(flag.item() > 0)


def plan_lines(
    spec: NetworkSpec, size: int, epochs: int, images: int, batch_size: int, parts: int, forwards: float, copies: float
) -> list[str]:
    """forwards: work per step, in forward-and-backward passes of the network; copies: of the parameters held."""
    steps = epochs * (images // (batch_size * parts))
    elements = sum(layer.cout * layer.out**2 for layer in spec.layers(size) if layer.kind in ("conv", "bn"))
    memory = 4 * (copies * spec.count("parameters") + 1.5 * elements * batch_size)
    seconds = steps * parts * batch_size * forwards * seconds_per_image(spec, size) / distributed.world_size()
    return [
        f"{epochs} epochs x {images // (batch_size * parts)} steps = {steps} steps of {parts} x {batch_size} images "
        f"at {size}",
        f"network: {spec.count('macs', size) / 1e6:.1f}M multiply-adds, {spec.count('parameters'):,} parameters",
        f"estimated time on this CPU: {seconds / 3600:.2f} hours, from one small batch timed just now (within a factor "
        "of 2 when nothing else runs); a GPU is 10 to 50 times faster",
        f"estimated memory: {memory / 2**30:.2f} GiB beside torch and the data",
    ]


def seconds_per_image(spec: NetworkSpec, size: int, images: int = 16) -> float:
    """Forward and backward pass of the network, measured: the better of two after a warm-up."""
    net = DerivedNetwork(spec).to(memory_format=torch.channels_last).train()
    x = torch.randn(images, 3, size, size).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        net(x).sum().backward()
        best = min(best, time.perf_counter() - start)
    return best / images
