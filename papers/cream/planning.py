"""``--plan``: steps, and rough time and memory, without running; and when to save under several processes."""

from __future__ import annotations

import time
from typing import Any

import torch

from common import distributed
from papers.cream.layout import NetworkSpec

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
    """forwards: extra work per step, in forward-and-backward passes of the network; copies: of the parameters held."""
    steps = epochs * (images // (batch_size * parts))
    work = 3.0 * spec.count("macs", size) * batch_size * parts * steps * forwards
    elements = sum(layer.cout * layer.out**2 for layer in spec.layers(size) if layer.kind in ("conv", "bn"))
    memory = 4 * (copies * spec.count("parameters") + 1.5 * elements * batch_size)
    seconds = work / machine_rate() / distributed.world_size()
    return [
        f"{epochs} epochs x {images // (batch_size * parts)} steps = {steps} steps of {parts} x {batch_size} images "
        f"at {size}",
        f"network: {spec.count('macs', size) / 1e6:.1f}M multiply-adds, {spec.count('parameters'):,} parameters",
        f"estimated time on this CPU: {seconds / 3600:.2f} hours (within a factor of 2); a GPU is 10 to 50 times "
        "faster",
        f"estimated memory: {memory / 2**30:.2f} GiB beside torch and the data",
    ]


def machine_rate() -> float:
    """Multiply-adds per second such networks reach here: a matrix product, times what depthwise networks make of it."""
    a = torch.randn(512, 512)
    a @ a
    start = time.perf_counter()
    for _ in range(5):
        a @ a
    return 5 * 512**3 / (time.perf_counter() - start) * 0.2
