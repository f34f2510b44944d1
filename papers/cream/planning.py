"""``--plan``: steps, and rough time and memory, without running."""

from __future__ import annotations

import time

import torch

from common.train import distributed
from papers.cream.network.layout import NetworkSpec
from papers.cream.network.networks import DerivedNetwork


def plan_lines(
    spec: NetworkSpec, size: int, epochs: int, images: int, batch_size: int, parts: int, forwards: float, copies: float
) -> list[str]:
    """forwards: work per step, in forward-and-backward passes of the network; copies: of the parameters held.

    batch_size: of the whole batch, which is worked through in ``parts`` shares.
    """
    steps = epochs * (images // batch_size)
    elements = sum(layer.cout * layer.out**2 for layer in spec.layers(size) if layer.kind in ("conv", "bn"))
    memory = 4 * (copies * spec.count("parameters") + 1.5 * elements * -(-batch_size // parts))
    seconds = steps * batch_size * forwards * seconds_per_image(spec, size) / distributed.world_size()
    shares = "" if parts == 1 else f" in {parts} shares of {batch_size / parts:g}"
    return [
        f"{epochs} epochs x {images // batch_size} steps = {steps} steps of {batch_size} images{shares} at {size}",
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
