"""What ``describe`` and ``--plan`` say of a derived network: its counts; steps, rough time on one CPU core, memory.

Seconds per image were measured on one core: they fall with the width C as multiply-adds / C, since depthwise and small
convolutions are bound by memory. Another machine, threads and load make a factor of two.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from common.run import distributed
from common.spaces.counting import macs, macs_and_conv_macs, parameters
from common.spaces.darts.genotype import Genotype
from common.spaces.darts.network import derived

# seconds of an image (step: forward and backward) and GB of its activations, times C / 10^9 multiply-adds
STEP, FORWARD, MEMORY, FORWARD_MEMORY = 6.5, 1.5, 4.0, 0.4
BASE = 0.35  # GB of an idle process with torch


def estimate(seconds: float, memory: float) -> str:
    """The last line of a plan; ``memory`` in GB, beside torch itself."""
    hours = f"{seconds / 3600:.2g}" if seconds < 99 * 3600 else f"{round(seconds / 3600, -1):,.0f}"
    text = f"{hours} h" if seconds > 5400 else f"{seconds / 60:.2g} min" if seconds > 90 else "1-2 min"
    return f"about {text} on one CPU core, {BASE + memory:.1f} GB of memory (rough: a factor of two)"


def counts(
    genotype: Genotype, imagenet: bool, classes: int, channels: int, layers: int, pixels: int, auxiliary: bool = True
) -> dict[str, int]:
    """Parameters without and with the auxiliary head; multiply-adds with the classifier, and of convolutions alone, for
    one square image of ``pixels``.
    """
    with torch.device("meta"):  # only shapes are counted
        network = derived(genotype, imagenet, classes, channels, layers, auxiliary)
    both, convolutions = macs_and_conv_macs(network, (3, pixels, pixels))
    return {
        "parameters": parameters(network), "parameters_with_auxiliary": parameters(network, exclude=()),
        "macs": both, "conv_macs": convolutions,
    }  # fmt: skip


def plan_training(settings: Any, network: nn.Module, pixels: int, batches: Any, tests: Any) -> list[str]:
    """Lines for a training with ``settings`` (those of ``TrainDerived``) of ``network``, on the meta device, on square
    images of ``pixels``; ``tests``: the batches of one test.
    """
    c = settings
    count = macs(network, (3, pixels, pixels))
    size, world = count / 1e9 / c.channels, distributed.world_size()
    passes = len(range(c.eval_every, c.epochs, c.eval_every)) + 1
    images, held = c.epochs * len(batches) * c.batch_size, len(tests) * c.eval_batch_size
    memory = size * max(c.batch_size // world * MEMORY, c.eval_batch_size * FORWARD_MEMORY)
    return [
        f"{c.arch}: {parameters(network):,} parameters, {count / 1e6:.1f} M multiply-adds",
        f"{c.dataset}: {c.epochs} x {len(batches)} = {c.epochs * len(batches):,} steps of {c.batch_size} images; "
        f"{passes} tests of {len(tests)} batches of {c.eval_batch_size}",
        estimate(size * (images * STEP + passes * held * FORWARD) / world, memory),
    ]


def plan_testing(arch: str, network: nn.Module, channels: int, pixels: int, images: int, batch_size: int) -> list[str]:
    """Lines for one pass of ``network`` (on the meta device) over ``images`` square images of ``pixels``."""
    count = macs(network, (3, pixels, pixels))
    size = count / 1e9 / channels
    return [
        f"{arch}, C = {channels}: {parameters(network):,} parameters, {count / 1e6:.1f} M multiply-adds; "
        f"{images:,} images in batches of {batch_size}",
        estimate(images * size * FORWARD, batch_size * size * FORWARD_MEMORY),
    ]
