"""Rank study: does sampling in proportion to size make supernet scores rank like stand-alone ones?

One pool. Stand-alone scores: each architecture from scratch, the recipe of the search's final step. Supernet scores:
one supernet per sampling policy and seed, trained on that pool, no controller. Agreement on the same pairs.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from common.run import seeds
from common.run.folder import Run, open_run, say
from common.train.device import pick_device
from papers.nao_v2 import cost
from papers.nao_v2.data.sets import (
    all_batches,
    open_set,
    outline,
    split,
    steps_of,
    train_batches,
    validation_batch,
)
from papers.nao_v2.method import balanced, pool, ranking
from papers.nao_v2.method.supernet_training import build_optimizer, learning_rate, score, supernet_step
from papers.nao_v2.network.architectures import SPACES, Architecture, text_of
from papers.nao_v2.network.operations import DropPath
from papers.nao_v2.network.supernet import Supernet, identity_operations
from papers.nao_v2.scratch import Recipe
from papers.nao_v2.settings import RankStudy
from papers.nao_v2.studies.random_search import Alone

POLICIES = ("params", "uniform")
MEASURES = {"pairwise_accuracy": ranking.pairwise_accuracy, "kendall_tau": ranking.kendall, "pearson": ranking.pearson}


def supernet_scores(
    c: RankStudy, run: Run, candidates: list[Architecture], parts: tuple[Any, Any], policy: str, seed: int,
    classes: int, device: torch.device, precision: str,
) -> list[float]:  # fmt: skip
    """Train a supernet with one sampling policy; accuracy of each architecture, in the order of the pool."""
    train, valid = parts
    torch.manual_seed(seeds.integer(seed, "rank study", policy))
    supernet = Supernet(
        channels=c.channels,
        layers=c.layers,
        classes=classes,
        space=c.space,
        generator=seeds.generator(seed, "supernet"),
    ).to(device)
    optimizer = build_optimizer(supernet, c.momentum, c.weight_decay)
    batches = train_batches(train, c.dataset, c.batch_size, seed, device, "supernet", shares=c.parts)
    drop = DropPath(c.drop_path_keep, c.epochs * len(batches), 3 * c.layers + 2, identity_operations(c.space))
    supernet.drop_path = drop if c.drop_path_keep < 1 else None
    p = balanced.sampler(policy, balanced.sizes(candidates, c.channels, c.layers, classes, c.space))
    rng = seeds.numpy_rng(seed, "paths", policy)
    for epoch in range(c.epochs):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate("restart", 0, epoch, c.epochs, c.lr, c.lr_min)
        supernet.train()
        for step, (x, y) in enumerate(run.progress(batches.epoch(epoch), f"{policy} seed {seed} epoch {epoch}")):
            seeds.step_chance(seeds.integer(seed, "rank study", policy), epoch, step)
            drop.step = epoch * len(batches) + step
            architecture = candidates[balanced.draw(rng, len(candidates), p)]
            supernet_step(
                supernet, architecture, x, y, optimizer, c.clip, c.zero_grad, precision, batches.share_sizes(step)
            )
    whole = all_batches(valid) if not c.score_images else []
    return [
        score(supernet, a, whole or [validation_batch(valid, c.score_images, seed, 0, k)], precision)
        for k, a in enumerate(candidates)
    ]


def write_ranks(
    run: Run, c: RankStudy, candidates: list[Architecture], alone: list[float],
    shared: dict[str, list[float]], classes: int,
) -> None:  # fmt: skip
    """rank.csv, one row per architecture: its size, ``accuracy`` (percent, from scratch), the supernets' scores.

    ``score`` is that of the first balanced supernet (fraction); the report draws it against ``accuracy``.
    """
    sizes = balanced.sizes(candidates, c.channels, c.layers, classes, c.space)
    for k, architecture in enumerate(candidates):
        scores = {
            f"{policy}_{repeat}": shared[f"{policy}-{repeat}"][k] for policy in POLICIES for repeat in range(c.seeds)
        }
        run.log(
            file="rank", architecture=text_of(architecture), parameters=int(sizes[k]), accuracy=alone[k],
            score=shared["params-0"][k], **scores,
        )  # fmt: skip


def rank_study(settings: RankStudy, options: Any) -> dict[str, Any]:
    """The ``rank-study`` verb; resumable between architectures and between supernets."""
    c, seed = settings, int(options.seed)
    device = pick_device(options)
    images = open_set(c.dataset, "train", "cifar", options)
    with open_run(options, c, {"data": images.pins, "pinned": images.pinned}) as run:
        if run.result is not None:
            return run.result
        rng = np.random.RandomState(seed)
        parts = split(rng, images.to(device), c.train_images, c.valid_images, seed)
        classes = len(images.classes)
        if c.pool_file:
            candidates = pool.read_pool(Path(c.pool_file), c.space)[: c.architectures]
        else:
            candidates = pool.random_pool(rng, c.architectures, len(SPACES[c.space]))
        per_epoch = -(-len(parts[0]) // c.batch_size)
        recipe = Recipe(
            epochs=c.alone_epochs, lr=c.lr, lr_min=c.lr_min,
            weight_decay=c.weight_decay, momentum=c.momentum, clip=c.clip, drop_path_keep=c.alone_drop_path_keep,
            drop_path_steps=c.alone_drop_path_steps or c.epochs * per_epoch,
        )  # fmt: skip
        recipe.check_ramp(per_epoch)
        network = {"channels": c.channels, "layers": c.layers, "classes": classes, "space": c.space,
                   "auxiliary": c.alone_auxiliary, "dropout_keep": c.alone_dropout_keep,
                   "relu_in_place": c.alone_relu_in_place}  # fmt: skip
        trainer = Alone(run, recipe, network, parts, c.dataset, c.batch_size, c.parts, seed, device, options.precision)
        state = run.load() or {"alone": [], "shared": {}}
        alone, shared = state["alone"], state["shared"]
        for number in range(len(alone), len(candidates)):
            alone.append(trainer.score(candidates[number], str(number)))
            run.log(file="alone", number=number, valid_accuracy_percent=alone[-1])
            say(f"architecture {number + 1} of {len(candidates)} from scratch: {alone[-1]:.2f} % of validation images")
            run.save({"alone": alone, "shared": shared})
        for repeat in range(c.seeds):
            for policy in POLICIES:
                if f"{policy}-{repeat}" in shared:
                    continue
                found = supernet_scores(
                    c, run, candidates, parts, policy, seed + repeat, classes, device, options.precision
                )
                shared[f"{policy}-{repeat}"] = found
                run.log(policy=policy, seed=seed + repeat, **{k: f(found, alone) for k, f in MEASURES.items()})
                run.save({"alone": alone, "shared": shared})
        metrics: dict[str, Any] = {"architectures": len(candidates), "seeds": c.seeds}
        for policy in POLICIES:
            for name, measure in MEASURES.items():
                values = [measure(shared[f"{policy}-{k}"], alone) for k in range(c.seeds)]
                metrics[f"{name}_{policy}"] = mean(values)
                metrics[f"{name}_{policy}_spread"] = stdev(values) if len(values) > 1 else 0.0
        write_ranks(run, c, candidates, alone, shared, classes)
        return run.finish({"metrics": metrics, "alone": alone, "shared": shared})


def plan(settings: RankStudy, options: Any) -> list[str]:
    """What a rank study would do."""
    c, supernets = settings, len(POLICIES) * settings.seeds
    images = outline(c.dataset, "cifar", options)
    train, valid = split(np.random.RandomState(options.seed), images, c.train_images, c.valid_images, options.seed)
    rest, steps = len(train), steps_of(train, c.batch_size, c.parts)
    count = min(len(pool.read_pool(Path(c.pool_file), c.space)), c.architectures) if c.pool_file else c.architectures
    trained = rest * (count * c.alone_epochs + supernets * c.epochs)
    at_once = min(c.score_images, len(valid)) or len(valid)
    scored = count * (len(valid) + supernets * at_once)
    seconds = cost.train_seconds(trained, c.channels, c.layers) + cost.score_seconds(scored, c.channels, c.layers)
    return [
        f"{count} architectures from scratch, {c.alone_epochs} epochs x {steps} steps of {c.batch_size} images each",
        f"{supernets} supernets ({' and '.join(POLICIES)}, {c.seeds} seeds) of {c.epochs} epochs x {steps} steps, "
        "all architectures scored by each",
        f"about {cost.duration(seconds)} on one CPU thread",
    ]
