"""Rank study: does sampling in proportion to size make supernet scores rank like stand-alone ones?

One pool. Stand-alone scores: each architecture from scratch, the recipe of the search's final step. Supernet scores:
one supernet per sampling policy and seed, trained on that pool, no controller. Agreement on the same pairs.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from common.data.batches import Batches
from common.data.sets import Images
from common.run import distributed, seeds
from common.run.device import pick_device
from common.run.folder import Run, open_run, say
from common.run.keep import Values
from common.train.metrics import kendall_tau
from papers.nao_v2.data.sets import refuse_small, small_images, split, train_batches
from papers.nao_v2.method import agreement, balanced, pool
from papers.nao_v2.method.stand_alone import Recipe, StandAlone
from papers.nao_v2.method.supernet_training import Schedule, Scorer, UsedWeights, build_optimizer, train_supernet
from papers.nao_v2.networks.architectures import SPACES, Architecture, Shape, text_of
from papers.nao_v2.networks.operations import DropPath
from papers.nao_v2.networks.supernet import Supernet, identity_operations
from papers.nao_v2.settings import RankStudy

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

POLICIES = ("params", "uniform")
MEASURES = {"pairwise_accuracy": agreement.pairwise_accuracy, "kendall_tau": kendall_tau, "pearson": agreement.pearson}


def rank_study(settings: RankStudy, options: RunOptions) -> dict[str, Any]:
    """Supernet scores against stand-alone scores of one pool (Method 9):

    1. every architecture is trained from scratch: its stand-alone accuracy;
    2. for every seed and sampling policy a supernet is trained on that pool and scores it;
    3. the agreement of both lists, for every supernet: pairwise accuracy, Kendall's tau-b, Pearson's r.
    """
    c, seed, device = settings, options.seed, pick_device(options)
    images = small_images(c.dataset, "train", options)
    refuse_small(c, images)
    with open_run(options, c, data=images) as run:
        if run.result is not None:
            return run.result
        rng = np.random.RandomState(seed)
        train, valid = split(rng, images.to(device), c.train_images, c.valid_images, seed)
        candidates = pool_of(c, rng)
        shape = Shape("cifar", c.channels, c.layers, len(images.classes), c.space)
        sizes = balanced.sizes(candidates, shape)
        network = {
            "auxiliary": c.alone_auxiliary, "dropout_keep": c.alone_dropout_keep,
            "relu_in_place": c.alone_relu_in_place,
        }  # fmt: skip
        recipe = alone_recipe(c, -(-len(train) // c.batch_size))
        trainings = StandAlone(recipe, shape, network, train, valid, c.batch_size, c.parts)
        now = Values(alone=[], shared={}, scores=[])
        run.keeps(now=now)
        for number, architecture in run.each(candidates, "stand-alone"):
            now.alone.append(trainings.accuracy(run, architecture, number, device))
            run.log(file="alone", number=number, valid_accuracy_percent=now.alone[-1])
            say(f"architecture {number + 1} of {len(candidates)} from scratch: {now.alone[-1]:.2f} % right")
        for _, (repeat, policy) in run.each([(r, p) for r in range(c.seeds) for p in POLICIES], "supernet"):
            supernet, batches = new_supernet(c, train, policy, seed + repeat)
            optimizer = build_optimizer(supernet, c.momentum, c.weight_decay)
            paths = balanced.Sampler(
                candidates, balanced.policy(policy, sizes), seeds.numpy_rng(seed + repeat, "paths", policy)
            )
            run.keeps(supernet=supernet, optimizer=optimizer, used=UsedWeights(supernet), paths=paths.rng)
            chance = Schedule(chance=seeds.integer(seed + repeat, "rank study", policy))
            for _ in train_supernet(run, c, supernet, optimizer, paths, batches, chance):
                pass
            score = Scorer(valid, c.score_images, seed + repeat, options.precision)
            for _, turn in run.each(distributed.in_turns(candidates), "score"):
                now.scores += distributed.share_out(turn, partial(score, supernet, 0))
            found: dict[str, Any] = {name: measure(now.scores, now.alone) for name, measure in MEASURES.items()}
            run.log(policy=policy, seed=seed + repeat, **found)
            now.shared, now.scores = {**now.shared, f"{policy}-{repeat}": now.scores}, []
        write_ranks(run, candidates, sizes, now.alone, now.shared)
        result = {"metrics": agreements(c, now.alone, now.shared), "alone": now.alone, "shared": now.shared}
        return run.finish(result)


def pool_of(c: RankStudy, rng: np.random.RandomState) -> list[Architecture]:
    """The architectures of the study: the first ones of ``--pool-file``, or random ones."""
    if c.pool_file:
        return pool.read_pool(Path(c.pool_file), c.space)[: c.architectures]
    return pool.random_pool(rng, c.architectures, len(SPACES[c.space]))


def alone_recipe(c: RankStudy, steps: int) -> Recipe:
    """Stand-alone training, ``steps`` per epoch. Raises UserError for a drop path's ramp that ends before it."""
    recipe = Recipe(
        epochs=c.alone_epochs, lr=c.lr, lr_min=c.lr_min, weight_decay=c.weight_decay, momentum=c.momentum, clip=c.clip,
        drop_path_keep=c.alone_drop_path_keep, drop_path_steps=c.alone_drop_path_steps or c.epochs * steps,
    )  # fmt: skip
    recipe.check_ramp(steps)
    return recipe


def new_supernet(c: RankStudy, train: Images, policy: str, seed: int) -> tuple[Supernet, Batches]:
    """(untrained supernet, its batches): a function of (seed, policy); what drops paths starts anew."""
    torch.manual_seed(seeds.integer(seed, "rank study", policy))
    supernet = Supernet(
        channels=c.channels, layers=c.layers, classes=len(train.classes), space=c.space,
        generator=seeds.generator(seed, "supernet"),
    ).to(train.labels.device)  # fmt: skip
    batches = train_batches(train, c.batch_size, seed, "supernet", parts=c.parts)
    exempt = identity_operations(c.space)
    supernet.drop_path = DropPath(c.drop_path_keep, c.epochs * len(batches), supernet.cells_total, exempt)
    return supernet, batches


def write_ranks(
    run: Run, candidates: list[Architecture], sizes: np.ndarray, alone: list[float], shared: dict[str, list[float]]
) -> None:
    """rank.csv, one row per architecture: its size, ``accuracy`` (percent, from scratch), the supernets' scores.

    ``score`` is that of the first balanced supernet (fraction); the report draws it against ``accuracy``.
    """
    names = sorted(shared, key=lambda name: (name.split("-")[0], int(name.split("-")[1])))
    for k, architecture in enumerate(candidates):
        scores = {name.replace("-", "_"): shared[name][k] for name in names}
        run.log(
            file="rank", architecture=text_of(architecture), parameters=int(sizes[k]), accuracy=alone[k],
            score=shared["params-0"][k], **scores,
        )  # fmt: skip


def agreements(c: RankStudy, alone: list[float], shared: dict[str, list[float]]) -> dict[str, Any]:
    """Mean and spread over the seeds of every measure, for both policies."""
    metrics: dict[str, Any] = {"architectures": len(alone), "seeds": c.seeds}
    for policy in POLICIES:
        for name, measure in MEASURES.items():
            values = [measure(shared[f"{policy}-{k}"], alone) for k in range(c.seeds)]
            metrics[f"{name}_{policy}"] = mean(values)
            metrics[f"{name}_{policy}_spread"] = stdev(values) if len(values) > 1 else 0.0
    return metrics
