"""``--plan`` of every verb: steps, and rough time and memory, without running."""

from __future__ import annotations

import time
from typing import Any

import torch

from common.data.parts import take
from common.run import distributed
from papers.cream.data import batches as data
from papers.cream.data import sets
from papers.cream.evaluate import what_is_tested
from papers.cream.method.schedules import Pace, pace_of, search_lrs, training_lr, untrained_share
from papers.cream.method.space import space_of
from papers.cream.networks.architectures import resolve
from papers.cream.networks.derived import input_size, spec_of
from papers.cream.networks.layout import NetworkSpec
from papers.cream.networks.networks import DerivedNetwork, placed
from papers.cream.select import any_search, finished_search
from papers.cream.settings import Evaluate, RankStudy, Search, Select, Train, TrainingBatches
from papers.cream.studies.rank_study import random_paths

COPIES = 4.0  # of the parameters that a training holds: weights, average, mean square, momentum


def plan_search(settings: Search, options: Any) -> list[str]:
    """Of the search. Raises UserError, also where no path lies in an enforced window."""
    space = space_of(settings)
    space.draw(options.seed, 0)
    parts = sets.search_parts(settings, space.resolution, options)
    pace, window = pace_of(settings, len(parts.train)), space.window
    typical = [[0], *([3] * count for count in window.sampled), [0]]
    spec = space.derived(typical, len(parts.train.classes))
    # teacher and meta updates, forwards of the board
    forwards = 1.4 + settings.pool_size * settings.slice * settings.shares() / (3 * settings.batch_size)
    built = f"blocks {list(window.sampled)}, window resolution {window.resolution}, trained at {space.resolution}"
    return [
        f"supernet: {built}",
        *training_lines(spec, space.resolution, settings.epochs, parts.train, settings, forwards, 20),
        *pace_lines(settings, pace),
    ]


def pace_lines(settings: Search, pace: Pace) -> list[str]:
    """The learning rate's course and how often the meta layer is updated."""
    first, last = (search_lrs(settings, i, pace.total)[0] for i in (0, settings.epochs * pace.iterations - 1))
    lines = [f"rate: from {first:g} to {last:.3g} in the last iteration, 0 after {pace.total:,.0f} iterations"]
    if pace.update_every:
        lines.append(
            f"meta updates: every {pace.update_every} of {pace.iterations} iterations in the epochs after epoch "
            f"{settings.start_epoch} (from 0): {pace.meta_updates(settings):,} in all"
        )
    return lines


def plan_select(settings: Select, options: Any) -> list[str]:
    """Of the re-scoring of a board."""
    searched = any_search(settings.search)
    paths, space = searched.board(), searched.space
    if settings.rule == "head":
        return ["writes the head of the board; nothing is scored"]
    train, held_out, _ = sets.search_parts(searched.settings, space.resolution, options)
    images = min(settings.select_images or len(train), len(train if held_out is None else held_out))
    calibration = settings.recalibrate_batches * searched.share
    per_image = seconds_per_image(space.derived(paths[0], len(train.classes)), space.resolution)
    seconds = len(paths) * (images + calibration) * per_image / 3
    return [
        f"{len(paths)} paths: statistics from {calibration} images, errors on {images} "
        + ("training images (the search held none out)" if held_out is None else "held-out images"),
        f"estimated time on this CPU: {seconds / 60:.1f} minutes, from one small batch timed just now",
    ]


def plan_train(settings: Train, options: Any) -> list[str]:
    """Of a training from scratch."""
    arch = resolve(settings.arch)
    size = input_size(arch, settings.resolution, settings.dataset)
    images = take(sets.open_source(settings.dataset, "train", size, options), settings.train_images, "--train-images")
    data.refuse_interpolation(settings, images, options.given)
    spec = spec_of(arch, len(images.classes), settings.single_block, settings.repeat_stage3)
    rate, epochs = training_lr(settings, arch.name)
    kind, note = (
        settings.schedule_of(arch.name),
        untrained_share(settings, epochs * (len(images) // settings.batch_size)),
    )
    return [
        *training_lines(spec, size, epochs, images, settings, 1.0, COPIES),
        f"schedule {kind}: rate {rate(0):g} in epoch 0, {rate(epochs - 1):g} in the last",
        *([note] if note else []),
    ]


def plan_evaluate(settings: Evaluate, options: Any) -> list[str]:
    """Of a test of weights."""
    settings, arch = what_is_tested(settings, options)
    size = input_size(arch, settings.resolution, settings.dataset)
    test = sets.open_source(settings.dataset, "test", size, options)
    data.refuse_interpolation(settings, test, options.given)
    spec = spec_of(arch, len(test.classes), settings.single_block, settings.repeat_stage3)
    macs = spec.count("macs", size)
    elements = max(layer.cout * layer.out**2 for layer in spec.layers(size) if layer.kind == "conv")
    memory = 4 * (spec.count("parameters") + 4 * elements * settings.batch_size)
    seconds = len(test) * seconds_per_image(spec, size) / 3 / distributed.world_size()
    return [
        f"{len(test)} images at {size}, {macs / 1e6:.1f}M multiply-adds each: {len(test) * macs / 1e9:.1f}G in all",
        f"estimated time on this CPU: {seconds / 60:.1f} minutes, from one small batch timed just now, reading the "
        f"pictures not counted",
        f"estimated memory: {memory / 2**30:.2f} GiB beside torch and the data",
    ]


def plan_rank_study(settings: RankStudy, options: Any) -> list[str]:
    """Of the rank study."""
    searched = finished_search(settings.search)
    space = searched.space
    images, held_out, _ = sets.search_parts(searched.settings, space.resolution, options)
    paths = random_paths(settings, space, options.seed)
    epochs = training_lr(settings, "path")[1]
    spec = space.derived(paths[0], len(images.classes))
    where = "test set" if held_out is None else "held-out images"
    return [
        f"{len(paths)} paths from scratch, {epochs} epochs each; both sides are judged on the {where}; in all:",
        *training_lines(spec, space.resolution, epochs * len(paths), images, settings, 1.0, COPIES),
    ]


def training_lines(
    spec: NetworkSpec, size: int, epochs: int, images: sets.Source, batches: TrainingBatches, forwards: float,
    copies: float,
) -> list[str]:  # fmt: skip
    """Steps, size, time and memory of a training.

    forwards: work per step, in forward-and-backward passes of the network; copies: of the parameters held. Raises
    UserError for a set too small for one batch.
    """
    data.check_batch(images, batches)
    batch_size, parts = batches.batch_size, batches.shares()
    per_epoch = len(images) // batch_size
    steps = epochs * per_epoch
    elements = sum(layer.cout * layer.out**2 for layer in spec.layers(size) if layer.kind in ("conv", "bn"))
    memory = 4 * (copies * spec.count("parameters") + 1.5 * elements * -(-batch_size // parts))
    seconds = steps * batch_size * forwards * seconds_per_image(spec, size) / distributed.world_size()
    shares = "" if parts == 1 else f" in {parts} shares of {batch_size / parts:g}"
    return [
        f"{epochs} epochs x {per_epoch} steps = {steps} steps of {batch_size} images{shares} at {size}",
        f"network: {spec.count('macs', size) / 1e6:.1f}M multiply-adds, {spec.count('parameters'):,} parameters",
        f"estimated time on this CPU: {seconds / 3600:.2f} hours, from one small batch timed just now (within a factor "
        "of 2 when nothing else runs); a GPU is 10 to 50 times faster",
        f"estimated memory: {memory / 2**30:.2f} GiB beside torch and the data",
    ]


def seconds_per_image(spec: NetworkSpec, size: int, images: int = 16) -> float:
    """Forward and backward pass of the network, measured: the better of two after a warm-up."""
    net = placed(DerivedNetwork(spec)).train()
    x = torch.randn(images, 3, size, size).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        net(x).sum().backward()
        best = min(best, time.perf_counter() - start)
    return best / images
