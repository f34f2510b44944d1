"""What ``search --plan`` prints: steps, sizes, rates and an estimate of the time. Nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from papers.nao_v2 import cost
from papers.nao_v2.data.sets import outline, split, steps_of
from papers.nao_v2.method import balanced, pool
from papers.nao_v2.method.controller import Controller
from papers.nao_v2.method.supernet_training import learning_rate
from papers.nao_v2.network.architectures import SPACES, vocabulary
from papers.nao_v2.network.supernet import Supernet
from papers.nao_v2.settings import Search


def plan(settings: Search, options: Any) -> list[str]:
    """What a search would do, and the controller's share of its time (one CPU thread)."""
    c = settings
    images, rng = outline(c.dataset, "cifar", options), np.random.RandomState(options.seed)
    train, valid = split(rng, images, c.train_images, c.valid_images, options.seed)
    rest, classes = len(train), len(images.classes)
    per_epoch = steps_of(train, c.batch_size, c.parts)
    steps_of(train, c.final_batch_size, c.parts)
    sizes = first_sizes(c, rng, classes)
    pools = [len(sizes) + i * c.new_architectures for i in range(c.iterations)]
    supernet = c.iterations * c.epochs * per_epoch
    controller = sum(
        c.controller_epochs * -(-c.controller_copies * int(0.9 * size) // c.controller_batch_size)
        for size in pools[:-1]
    )
    shape = (c.channels, c.layers)
    work = {
        "supernet": cost.train_seconds(c.iterations * c.epochs * rest, *shape),
        "scores": cost.score_seconds(sum(pools) * (min(c.score_images, len(valid)) or len(valid)), *shape),
        "controller": controller * c.controller_batch_size / 100 * cost.CONTROLLER_S,
        "final trainings": cost.train_seconds(c.final * c.final_epochs * rest, *shape),
    }
    total = sum(work.values())
    parts = ", ".join(f"{name} {100 * seconds / total:.1f} %" for name, seconds in work.items())
    rates = [learning_rate(c.restart, 0, e, c.epochs, c.lr, c.lr_min) for e in (0, c.epochs - 1)]
    p = balanced.sampler(c.sampling, sizes)
    often = 1.0 if p is None else float(p.max() / p.min())
    return [
        f"{c.iterations} supernet trainings of {c.epochs} epochs x {per_epoch} steps ({c.epochs * per_epoch} each) = "
        f"{supernet} steps of {c.batch_size} images, learning rate {rates[0]:.6g} to {rates[1]:.6g} in the first",
        f"pool: {len(sizes)} architectures of {sizes.min()} to {sizes.max()} parameters (mean {sizes.mean():.0f}), "
        f"the largest is drawn {often:.2f} times as often as the smallest",
        networks_line(c, classes),
        f"{sum(pools)} scores, up to {(c.iterations - 1) * c.new_architectures} new architectures, "
        f"{controller} controller steps",
        f"{c.final} trainings from scratch of {c.final_epochs} epochs",
        f"about {cost.duration(total)} on one CPU thread: {parts}",
        "about 2 GB of memory: images, and activations of a validation batch of 500",
    ]


def first_sizes(c: Search, rng: np.random.RandomState, classes: int) -> np.ndarray:
    """Parameters of the architectures that a search starts from, drawn behind the split from its stream ``rng``."""
    if c.pool_file:
        first = pool.read_pool(Path(c.pool_file), c.space)
    else:
        first = pool.random_pool(rng, c.seed_architectures, len(SPACES[c.space]))
    return balanced.sizes(first, c.channels, c.layers, classes, c.space)


def networks_line(c: Search, classes: int) -> str:
    """Sizes of the supernet and the controller, counted without their values."""
    with torch.device("meta"):
        shared = Supernet(channels=c.channels, layers=c.layers, classes=classes, space=c.space)
        controller = Controller(
            vocabulary(c.space), c.controller_embedding, c.controller_hidden, c.controller_mlp_layers,
            c.controller_mlp_hidden,
        )  # fmt: skip
    tensors = [p.numel() for p in shared.parameters()]
    return (
        f"supernet of {sum(tensors)} parameters in {len(tensors)} tensors; controller of "
        f"{sum(p.numel() for p in controller.parameters())} parameters, {vocabulary(c.space)} tokens"
    )
