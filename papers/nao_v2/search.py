"""The search: train the supernet in proportion to size, score, train the controller, generate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from common.data.batches import Batches
from common.data.sets import Images
from common.errors import UserError
from common.run import distributed, files, seeds
from common.run.device import pick_device
from common.run.folder import Run, open_run
from common.run.keep import Values
from common.spaces.architecture import save_architecture
from common.train.compiling import compile_operations
from common.train.loop import evaluate
from papers.nao_v2.data.sets import all_batches, refuse_small, small_images, split, train_batches
from papers.nao_v2.method import balanced, pool
from papers.nao_v2.method.controller import Controller
from papers.nao_v2.method.controller_training import controller_quality, train_controller, training_data
from papers.nao_v2.method.stand_alone import Recipe, train_alone
from papers.nao_v2.method.supernet_training import Schedule, Scorer, UsedWeights, build_optimizer, train_supernet
from papers.nao_v2.networks.architectures import (
    SPACE,
    SPACES,
    Architecture,
    Shape,
    as_file,
    from_tokens,
    text_of,
    to_tokens,
    vocabulary,
)
from papers.nao_v2.networks.derived import Network
from papers.nao_v2.networks.operations import DropPath
from papers.nao_v2.networks.size import size_of
from papers.nao_v2.networks.supernet import SharedDilated, SharedSeparable, Supernet, identity_operations
from papers.nao_v2.settings import Search

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def search(settings: Search, options: RunOptions) -> dict[str, Any]:
    """Balanced one-shot architecture search (Method 1). Pool P = {}, candidates S = random, supernet W. Each iteration:

    1. p(a) = n(a) / sum of n over S, n(a) being the size of the network that is derived from a.
    2. Training of W: every step draws a ~ p and goes down the loss along a.
    3. P = P + S, and every architecture of P is scored along its path; 4. P is sorted. 5. The last iteration ends here.
    6. Controller data: sequences of P with scaled scores, and copies with swapped operands.
    7. The controller learns to predict these scores and to rebuild the sequences.
    8. S = what latent steps of growing size from the best of P decode to.

    The best of P are trained from scratch; the best of these is the result.
    """
    c, seed, device = settings, options.seed, pick_device(options)
    images = small_images(c.dataset, "train", options)
    refuse_small(c, images)
    with open_run(options, c, data=images) as run:
        if run.result is not None:
            return run.result
        rng = np.random.RandomState(seed)  # the original's one numpy stream: split, pool, draws, shuffle, swaps
        shape = Shape(channels=c.channels, layers=c.layers, classes=len(images.classes), space=c.space)
        train, valid = split(rng, images.to(device), c.train_images, c.valid_images, seed)
        batches = train_batches(train, c.batch_size, seed, "supernet", cutout=c.cutout, parts=c.parts)
        final_recipe(c, len(batches), len(final_batches(c, train, seed, 0)))  # refused now, not after days
        now = Values(
            pool=[], candidates=first_candidates(c, rng), scores=[], accuracies=[], final_scores=[],
            controller_data=[], kept=[], largest_step=0, generated=0, began=0.0, controller_seconds=0.0,
        )  # fmt: skip
        supernet, optimizer = new_supernet(c, shape, len(batches), options, 0, device)
        controller, score = new_controller(c, seed, 0, device), Scorer(valid, c.score_images, seed, options.precision)
        torch.manual_seed(seeds.integer(seed, "drop path", distributed.rank()))
        run.keeps(now=now, rng=rng, controller=controller)
        run.keeps(supernet=supernet, optimizer=optimizer, used=UsedWeights(supernet))
        for i in run.epochs(c.iterations, "iteration"):
            if i and c.supernet_weights == "reset":
                supernet, optimizer = new_supernet(c, shape, len(batches), options, i, device)
                run.keeps(supernet=supernet, optimizer=optimizer, used=UsedWeights(supernet))
            sizes = balanced.sizes(now.candidates, shape)
            paths = balanced.Sampler(now.candidates, balanced.policy(c.sampling, sizes), rng)
            training = train_supernet(run, c, supernet, optimizer, paths, batches, Schedule(c.restart, i))
            for epoch, rate, trained in training:
                run.log(
                    epoch=i * c.epochs + epoch, iteration=i, iteration_epoch=epoch, lr=rate, candidates=len(sizes),
                    train_loss=trained.loss, train_top1_error_percent=trained.top1_error,
                )  # fmt: skip
            for _, turn in run.each(distributed.in_turns(now.pool + now.candidates), "score"):
                now.scores += distributed.share_out(turn, partial(score, supernet, i))
            if run.once("ranking"):
                now.pool, now.accuracies = pool.best_first(now.pool + now.candidates, now.scores)
                now.scores = []
                write_iteration(run, i, now.pool, now.accuracies)
            if i + 1 < c.iterations:
                teach(run, c, controller, now, rng, i)
                generate(run, c, controller, now, rng, i)
        train_best(run, c, now, shape, (train, valid), len(batches))
        return finish(run, c, now, controller, shape, (images.size, len(batches)))


def teach(run: Run, c: Search, controller: Controller, now: Values, rng: np.random.RandomState, i: int) -> None:
    """Steps 6 and 7: the controller's data, ten times the pool, and its training. Its weights go on unless reset."""
    if run.once("controller data"):
        now.began = run.seconds()
        sequences, targets = [to_tokens(a) for a in now.pool], pool.scaled(now.accuracies)
        now.controller_data = training_data(rng, sequences, targets, c.controller_copies)
        if i and c.controller_weights == "reset":
            controller.load_state_dict(new_controller(c, run.options.seed, i, controller.device).state_dict())
    train_controller(run, c, controller, now.controller_data, i)


def generate(run: Run, c: Search, controller: Controller, now: Values, rng: np.random.RandomState, i: int) -> None:
    """Step 8: lambda = 1, 2, 3, …, one latent step of that size from the best architectures at once; the new are kept.

    Raises UserError where nothing is new and random architectures are not asked for; the state is kept.
    """
    controller.eval()
    distributed.broadcast(p.data for p in controller.parameters())
    best = torch.tensor([to_tokens(a) for a in now.pool[: c.generation_seeds]], device=controller.device)
    outputs, gradient = controller.gradient(best)
    known = {tuple(to_tokens(a)) for a in now.pool}
    for _, size in run.each(range(1, c.maximum_step + 1), "latent step"):
        if len(now.kept) >= c.new_architectures:
            break
        decoded = controller.improved(outputs, gradient, size)[0].tolist()
        pool.select_new(decoded, known, now.kept, c.new_architectures, c.canonical)
        now.largest_step = size
        if size == c.maximum_step and not now.kept and c.on_empty == "stop":
            run.save_now()
            raise UserError(
                f"the controller of iteration {i} decoded no new architecture up to step {size}; the state is kept in "
                f"{run.folder}: go on with --on-empty random, or choose another --out and more --controller-epochs"
            )
    now.candidates = [from_tokens(tokens) for tokens in now.kept] or random_candidates(c, rng, c.new_architectures)
    run.log(
        file="generation", iteration=i, largest_step=now.largest_step, decoded=len(now.kept),
        candidates=len(now.candidates),
    )  # fmt: skip
    now.kept, now.generated = [], now.generated + len(now.candidates)
    now.controller_seconds += run.seconds() - now.began


def random_candidates(c: Search, rng: np.random.RandomState, count: int) -> list[Architecture]:
    """``count`` random architectures of the search's space."""
    return pool.random_pool(rng, count, len(SPACES[c.space]))


def first_candidates(c: Search, rng: np.random.RandomState) -> list[Architecture]:
    """What the search starts from: random architectures, or those of ``--pool-file``."""
    return (
        pool.read_pool(Path(c.pool_file), c.space) if c.pool_file else random_candidates(c, rng, c.seed_architectures)
    )


def new_supernet(
    c: Search, shape: Shape, steps: int, options: RunOptions, iteration: int, device: torch.device
) -> tuple[Supernet, torch.optim.SGD]:
    """Fresh shared weights and their optimiser; ``steps`` per epoch set the drop path's ramp."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.integer(options.seed, "classifier bias", iteration))
        supernet = Supernet(
            channels=c.channels, layers=c.layers, classes=shape.classes, space=c.space, dropout_keep=c.dropout_keep,
            generator=seeds.generator(options.seed, "supernet", iteration),
        ).to(device)  # fmt: skip
    exempt = identity_operations(c.space) if c.drop_path_rule == "identity_exempt" else frozenset()
    compile_operations(supernet, options, SharedSeparable, SharedDilated)
    supernet.drop_path = DropPath(c.drop_path_keep, c.epochs * steps, supernet.cells_total, exempt)
    return supernet, build_optimizer(supernet, c.momentum, c.weight_decay)


def new_controller(c: Search, seed: int, iteration: int, device: torch.device) -> Controller:
    """An untrained controller; a function of (seed, iteration)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.integer(seed, "controller", iteration))
        return Controller(
            vocabulary(c.space), c.controller_embedding, c.controller_hidden, c.controller_mlp_layers,
            c.controller_mlp_hidden, c.controller_mlp_dropout,
        ).to(device)  # fmt: skip


def train_best(
    run: Run, c: Search, now: Values, shape: Shape, sets: tuple[Images, Images], supernet_steps: int
) -> None:
    """The best of P, each trained from scratch on the first of ``sets`` and tested on the second (Method 8)."""
    (train, valid), seed, device = sets, run.options.seed, sets[0].labels.device
    for number, architecture in run.each(now.pool[: c.final], "finalist"):
        batches = final_batches(c, train, seed, number)
        torch.manual_seed(seeds.integer(seed, "final", number))
        with torch.random.fork_rng(devices=[]):
            network = Network(
                architecture, shape, auxiliary=c.final_auxiliary, dropout_keep=c.final_dropout_keep,
                relu_in_place=c.final_relu_in_place, generator=seeds.generator(seed, "final", number),
            ).to(device)  # fmt: skip
        recipe, chance = final_recipe(c, supernet_steps, len(batches)), seeds.integer(seed, "final chance", number)
        for epoch, trained in train_alone(run, network, recipe, batches, device, chance):
            run.log(
                file="final", epoch=number * c.final_epochs + epoch, number=number, number_epoch=epoch,
                train_loss=trained.loss, train_top1_error_percent=trained.top1_error,
            )  # fmt: skip
        found = evaluate(network, all_batches(valid), device, run.options.precision)
        now.final_scores.append(100.0 - found.top1_error)


def final_batches(c: Search, train: Images, seed: int, number: int) -> Batches:
    """Batches of the training from scratch of the ``number``-th of the best."""
    return train_batches(train, c.final_batch_size, seed, f"final-{number}", parts=c.parts)


def final_recipe(c: Search, supernet_steps: int, steps: int) -> Recipe:
    """How the best are trained from scratch; as released, their drop path's ramp is as long as the supernet's.

    supernet_steps, steps: per epoch. Raises UserError for a ramp that would end before the training.
    """
    recipe = Recipe(
        epochs=c.final_epochs, lr=c.lr, lr_min=c.lr_min, momentum=c.momentum, weight_decay=c.weight_decay, clip=c.clip,
        drop_path_keep=c.final_drop_path_keep, drop_path_steps=c.final_drop_path_steps or c.epochs * supernet_steps,
    )  # fmt: skip
    recipe.check_ramp(steps)
    return recipe


def write_iteration(run: Run, i: int, architectures: list[Architecture], accuracies: list[float]) -> None:
    """arch_pool.i, arch_pool.perf.i and a row of pool.csv; best first."""
    if run.writes:
        pool.write_pool(run.folder / f"arch_pool.{i}", architectures)
        pool.write_scores(run.folder / f"arch_pool.perf.{i}", accuracies)
    run.log(
        file="pool", iteration=i, size=len(architectures), best=accuracies[0], worst=accuracies[-1],
        mean=float(np.mean(accuracies)),
    )  # fmt: skip


def finish(
    run: Run, c: Search, now: Values, controller: Controller, shape: Shape, told: tuple[int, int]
) -> dict[str, Any]:
    """Files, architecture.json and the result; the controller's share of the time goes to timing.json only.

    told: side of the images in pixels, steps of a supernet epoch.
    """
    best, (pixels, steps) = pool.ranking(now.final_scores), told
    architectures = [now.pool[k] for k in best]
    if run.writes:
        origin = {**run.origin, "dataset": c.dataset, "classes": shape.classes, "pixels": pixels}
        pool.write_pool(run.folder / "arch_pool.final", architectures)
        pool.write_scores(run.folder / "arch_pool.perf.final", [now.final_scores[k] for k in best])
        save_architecture(run.folder / "architecture.json", SPACE, as_file(architectures[0], c.space), origin)
    size = size_of(architectures[0], shape)
    metrics = {
        "valid_accuracy_percent": now.final_scores[best[0]], "supernet_accuracy": now.accuracies[best[0]],
        "parameters": size.parameters, "macs": size.macs, "pool": len(now.pool),
        "supernet_steps": c.iterations * c.epochs * steps, "new_architectures": now.generated,
    }  # fmt: skip
    if now.controller_data:  # of the last iteration that had a controller
        held_out = (t.to(controller.device) for t in now.controller_data[2:])
        quality = controller_quality(controller, *held_out)
        metrics |= {"controller_pairwise_accuracy": quality[0], "controller_hamming": quality[1]}
    seconds = run.seconds()
    result = run.finish({"metrics": metrics, "architecture": text_of(architectures[0])})
    if run.writes:
        timing = files.read_json(run.folder / "timing.json")
        timing["controller_seconds"] = round(now.controller_seconds, 3)
        timing["controller_share"] = round(now.controller_seconds / seconds, 4) if seconds else 0.0
        files.write_json(run.folder / "timing.json", timing)
    return result
