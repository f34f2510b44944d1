"""What ``--plan`` prints of every stage: steps, sizes, rates and an estimate of the time. Nothing is trained.

Time is that of one CPU thread, measured at 8 to 12 channels and 5 to 8 cells (a search of the proxy profile): it grows
with images x cells x initial channels. The published widths are somewhat slower per unit, since convolutions grow with
the width squared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.data import names
from common.data.batches import Epochs, Order
from common.data.parts import take
from common.data.pictures.sets import Pictures, open_pictures
from common.data.pictures.sizes import image_size
from common.data.sets import Images, blank, open_images
from common.run import seeds
from common.run.distributed import per_process
from papers.nao_v2.data.sets import check_pixels, refuse_few, refuse_small, split
from papers.nao_v2.evaluate import open_checkpoint
from papers.nao_v2.method import balanced, pool
from papers.nao_v2.method.controller import Controller
from papers.nao_v2.method.supernet_training import learning_rate
from papers.nao_v2.networks.architectures import Shape, load, space_of, vocabulary
from papers.nao_v2.networks.size import size_of
from papers.nao_v2.networks.supernet import Supernet
from papers.nao_v2.search import first_candidates
from papers.nao_v2.settings import Evaluate, RandomSearch, RankStudy, Search, SmallImages, Train
from papers.nao_v2.studies.random_search import count_of
from papers.nao_v2.studies.rank_study import POLICIES
from papers.nao_v2.train import kind_of, recipe_of

TRAIN_S, SCORE_S = 1.1e-4, 0.5e-4  # seconds per image, cell and initial channel: training step, scoring
CONTROLLER_S = 0.031  # seconds per controller step of 100 sequences
IMAGES = {"cifar10": (50_000, 10), "cifar100": (50_000, 100), "imagenet": (1_281_167, 1000)}  # and classes


def search(settings: Search, options: Any) -> list[str]:
    """What a search would do, and the controller's share of its time."""
    c = settings
    rng = np.random.RandomState(options.seed)
    train, valid, per_epoch = parts_of(c, rng, options)
    steps_of(train, c.final_batch_size, c.parts)
    classes = len(train.classes)
    sizes = balanced.sizes(first_candidates(c, rng), Shape("cifar", c.channels, c.layers, classes, c.space))
    pools = [len(sizes) + i * c.new_architectures for i in range(c.iterations)]
    epochs = c.iterations * c.epochs
    controller = sum(
        c.controller_epochs * -(-c.controller_copies * int(0.9 * size) // c.controller_batch_size)
        for size in pools[:-1]
    )
    shape = (c.channels, c.layers)
    work = {
        "supernet": train_seconds(epochs * len(train), *shape),
        "scores": score_seconds(sum(pools) * (min(c.score_images, len(valid)) or len(valid)), *shape),
        "controller": controller * c.controller_batch_size / 100 * CONTROLLER_S,
        "final trainings": train_seconds(c.final * c.final_epochs * len(train), *shape),
    }
    total = sum(work.values())
    shares = ", ".join(f"{name} {100 * seconds / total:.1f} %" for name, seconds in work.items())
    first, last = (learning_rate(c.restart, 0, e, c.epochs, c.lr, c.lr_min) for e in (0, c.epochs - 1))
    p = balanced.policy(c.sampling, sizes)
    often = 1.0 if p is None else float(p.max() / p.min())
    return [
        f"{c.iterations} supernet trainings of {c.epochs} epochs x {per_epoch} steps ({c.epochs * per_epoch} each) = "
        f"{epochs * per_epoch} steps of {c.batch_size} images, learning rate {first:.6g} to {last:.6g} in the first",
        f"pool: {len(sizes)} architectures of {sizes.min()} to {sizes.max()} parameters (mean {sizes.mean():.0f}), "
        f"the largest is drawn {often:.2f} times as often as the smallest",
        networks_line(c, classes),
        f"{sum(pools)} scores, up to {(c.iterations - 1) * c.new_architectures} new architectures, "
        f"{controller} controller steps",
        f"{c.final} trainings from scratch of {c.final_epochs} epochs",
        f"about {duration(total)} on one CPU thread: {shares}",
        "about 2 GB of memory: images, and activations of a validation batch of 500",
    ]


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


def random_search(settings: RandomSearch, options: Any) -> list[str]:
    """What a random search would do."""
    c, count = settings, count_of(settings)
    train, valid, steps = parts_of(c, seeds.numpy_rng(options.seed, "random search"), options)
    seconds = train_seconds(count * c.epochs * len(train), c.channels, c.layers)
    seconds += score_seconds(count * len(valid), c.channels, c.layers)
    return [
        f"{count} random architectures x {c.epochs} epochs x {steps} steps of {c.batch_size} images",
        f"about {duration(seconds)} on one CPU thread",
    ]


def rank_study(settings: RankStudy, options: Any) -> list[str]:
    """What a rank study would do."""
    c, supernets = settings, len(POLICIES) * settings.seeds
    train, valid, steps = parts_of(c, np.random.RandomState(options.seed), options)
    count = min(len(pool.read_pool(Path(c.pool_file), c.space)), c.architectures) if c.pool_file else c.architectures
    trained = len(train) * (count * c.alone_epochs + supernets * c.epochs)
    scored = count * (len(valid) + supernets * (min(c.score_images, len(valid)) or len(valid)))
    seconds = train_seconds(trained, c.channels, c.layers) + score_seconds(scored, c.channels, c.layers)
    return [
        f"{count} architectures from scratch, {c.alone_epochs} epochs x {steps} steps of {c.batch_size} images each",
        f"{supernets} supernets ({' and '.join(POLICIES)}, {c.seeds} seeds) of {c.epochs} epochs x {steps} steps, "
        "all architectures scored by each",
        f"about {duration(seconds)} on one CPU thread",
    ]


def train(settings: Train, options: Any) -> list[str]:
    """What a training would do."""
    c = settings
    kind, space = kind_of(c, options), space_of(c.arch, c.space)
    images = take(outline(c.dataset, kind, options), c.train_images, "--train-images")
    refuse_few(c, images)
    count, classes, steps = len(images), len(images.classes), steps_of(images, c.batch_size, c.parts)
    size = size_of(
        load(c.arch, space), Shape(kind=kind, channels=c.channels, layers=c.layers, classes=classes, space=space)
    )
    recipe, work = recipe_of(c, steps), 6 * size.macs * c.epochs * count
    lines = []
    if kind == "cifar":  # the estimate is for 32x32 images
        lines = [
            f"about {duration(train_seconds(c.epochs * count, c.channels, c.layers))} on one CPU thread, tests aside"
        ]
    return [
        f"{kind} network, {c.epochs} epochs x {steps} steps of {c.batch_size} images = {c.epochs * steps} steps",
        f"learning rate {recipe.rate(0):.6g} in the first epoch, {recipe.rate(c.epochs - 1):.6g} in the last",
        f"{size.parameters:,} parameters, {size.macs:,} multiply-adds per image: {work / 1e15:.3g} x 10^15 operations",
        *lines,
    ]


def evaluate(settings: Evaluate, options: Any) -> list[str]:
    """What an evaluation would do."""
    opened = open_checkpoint(settings, options)
    size, found = opened.size, opened.shape
    lines = [
        f"{opened.dataset}: {len(opened.test):,} images, {size.parameters:,} parameters, {size.macs:,} multiply-adds "
        f"per image"
    ]
    if opened.stored.kind == "cifar":  # the estimate is for 32x32 images
        seconds = score_seconds(len(opened.test), found.channels, found.layers)
        lines.append(f"about {duration(seconds)} on one CPU thread")
    return lines


# -- data without their pictures ---------------------------------------------------------------------------------------


def parts_of(c: SmallImages, rng: np.random.RandomState, options: Any) -> tuple[Images, Images, int]:
    """(what is trained on, what scores, steps per epoch) as the run would have them. Raises UserError as it would."""
    images = outline(c.dataset, "cifar", options)
    refuse_small(c, images)
    train, valid = split(rng, images, c.train_images, c.valid_images, options.seed)
    return train, valid, steps_of(train, c.batch_size, c.parts)


def outline(dataset: str, kind: str, options: Any) -> Any:
    """A training set whose number of images and classes are right, of which no picture is read; a known set need not
    be there (what its parts lack is then not found). Raises UserError as opening it does.
    """
    if dataset == "digits":
        return open_images(dataset, "train", options)
    if kind == "cifar":
        check_pixels(dataset, image_size(dataset, options))
    if dataset not in IMAGES:
        return open_pictures(names.parse(dataset)[0], "train", options, hashed=False)
    return blank(dataset, *IMAGES[dataset])


def steps_of(images: Images | Pictures, batch_size: int, parts: int) -> int:
    """Steps per epoch. Raises UserError for batches that cannot be made of so few images, or shared out."""
    return len(Epochs(images.name, len(images), batch_size, Order(0), per_process(parts)))


# -- time --------------------------------------------------------------------------------------------------------------


def train_seconds(images: float, channels: int, layers: int) -> float:
    """Training steps over so many images in all."""
    return images * (3 * layers + 2) * channels * TRAIN_S


def score_seconds(images: float, channels: int, layers: int) -> float:
    """Scoring, or testing, with so many images in all."""
    return images * (3 * layers + 2) * channels * SCORE_S


def duration(seconds: float) -> str:
    """In the largest unit that fits."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
