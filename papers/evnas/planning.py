"""``--plan`` of training and evaluation: steps, rough time on one CPU core, memory. Runs nothing.

Data are opened as the run opens them, so the counts are the run's and its mistakes are found. Seconds per image were
measured on one core; they fall with the width C as multiply-adds / C, since depthwise and small convolutions are bound
by memory. Another machine, threads and load make a factor of two.
"""

from __future__ import annotations

from typing import Any

import torch

from common import distributed
from common.counting import macs, parameters
from papers.evnas.evaluate import of_imagenet, open_test, read_checkpoint, shape_of
from papers.evnas.networks import build, load_genotype
from papers.evnas.ranges import check_ranges
from papers.evnas.settings_train import EvaluateSettings, TrainImageNetSettings, TrainSettings
from papers.evnas.train import open_cifar, open_imagenet

# seconds of an image (step: forward and backward) and GB of its activations, times C / 10^9 multiply-adds
STEP, FORWARD, MEMORY, FORWARD_MEMORY = 6.5, 1.5, 4.0, 0.4
BASE = 0.35  # GB of an idle process with torch
CPU = torch.device("cpu")


def plan_train(settings: TrainSettings | TrainImageNetSettings, options: Any) -> list[str]:
    """Both recipes."""
    check_ranges(settings)
    c, imagenet, world = settings, isinstance(settings, TrainImageNetSettings), distributed.world_size()
    open_data: Any = open_imagenet if imagenet else open_cifar
    batches, tests, classes, _ = open_data(c, options, CPU)
    count, multiply_adds, size = _sizes(c, imagenet, tests, classes, c.channels, c.layers)
    passes = len(range(c.evaluate_every, c.epochs, c.evaluate_every)) + 1
    images = c.epochs * len(batches) * c.batch_size
    seconds = size * (images * STEP + passes * len(tests) * c.eval_batch_size * FORWARD) / world
    memory = size * max(c.batch_size // world * MEMORY, c.eval_batch_size * FORWARD_MEMORY)
    return [
        f"{c.arch}: {count:,} parameters, {multiply_adds / 1e6:.1f} M multiply-adds",
        f"{c.dataset}: {c.epochs} x {len(batches)} = {c.epochs * len(batches):,} steps of {c.batch_size} images; "
        f"{passes} tests of {len(tests)} batches of {c.eval_batch_size}",
        _estimate(seconds, memory),
    ]


def plan_evaluate(settings: EvaluateSettings, options: Any) -> list[str]:
    """One pass over the test set."""
    check_ranges(settings, defaults=("channels", "layers"))
    c, tensors = settings, read_checkpoint(settings.checkpoint)
    imagenet = of_imagenet(tensors)
    channels, layers = shape_of(tensors, imagenet)
    test, tests = open_test(c, imagenet, options, CPU)
    count, multiply_adds, size = _sizes(
        c, imagenet, tests, len(test.classes), c.channels or channels, c.layers or layers
    )
    return [
        f"{c.arch}: {count:,} parameters, {multiply_adds / 1e6:.1f} M multiply-adds; {len(test):,} images",
        _estimate(len(test) * size * FORWARD, tests.batch_size * size * FORWARD_MEMORY),
    ]


def _sizes(c: Any, imagenet: bool, tests: Any, classes: int, channels: int, layers: int) -> tuple[int, int, float]:
    """(parameters, multiply-adds, 10^9 multiply-adds / C)."""
    with torch.device("meta"):  # only shapes are counted
        network = build(load_genotype(c.arch), imagenet, classes, channels, layers)
    pixels = 224 if imagenet else tests.images.size
    count = macs(network, (3, pixels, pixels))
    return parameters(network), count, count / 1e9 / (channels or (48 if imagenet else 36))


def _estimate(seconds: float, memory: float) -> str:
    hours, minutes = seconds / 3600, seconds / 60
    text = f"{hours:,.2g} h" if 1.5 < hours < 99 else f"{hours:,.0f} h" if hours >= 99 else f"{max(minutes, 1):.2g} min"
    return f"about {text} on one CPU core, {BASE + memory:.1f} GB of memory (rough: a factor of two)"
