"""RandomNAS with the NSAS loss in the DARTS space."""

from __future__ import annotations

from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from common.data.batches import Batches, Order, as_they_stand
from common.data.parts import take
from common.run import distributed, seeds
from common.run.device import pick_device
from common.run.folder import open_run
from common.spaces.architecture import save_architecture
from common.spaces.darts.operations import StartsWithReLU
from common.train.compiling import compile_operations
from common.train.optim import zero_fill_grads
from common.train.schedules import cosine
from papers.nsas.data import augmentation, origin_of, search_parts
from papers.nsas.method.loss import Loss, LossSums, differentiate, paper_loss, released_loss
from papers.nsas.method.novelty import ConstraintSet
from papers.nsas.method.sampling import SAMPLERS, Architecture, genotype_of
from papers.nsas.method.schedules import shifted
from papers.nsas.method.selection import accuracy, candidates, recalibrate, winners
from papers.nsas.networks.architectures import MONITORED
from papers.nsas.networks.paths import Logits, logits_function
from papers.nsas.networks.supernet import build_supernet
from papers.nsas.settings import SearchRandom

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions
    from common.data.sets import Images
    from common.run.folder import Run


def search(settings: SearchRandom, options: RunOptions) -> dict:
    """Train the supernet on random cells with the NSAS loss, then choose a cell (Method 1 to 5).

    for each batch: sample a_t; update the constraint set with it;
        step on L(w) = (1 - eps) CE(w; a_t) + (eps / M) sum_i CE(w; a_i), a_i the constraints, same batch
    afterwards: score random cells on the selection part; the best of each of five rounds wins, the best winner is it

    As released the second term is a constant (``constraint_gradient`` False). Raises UserError for idle settings.
    """
    device, draw = pick_device(options), SAMPLERS[settings.constraint, settings.inputs]
    train, valid = open_batches(settings, options, device)
    with open_run(options, settings, data=train.images) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        supernet = build_supernet(settings.channels, len(train.images.classes), settings.layers).to(device)
        compile_operations(supernet, options, StartsWithReLU)
        optimizer = torch.optim.SGD(
            supernet.parameters(), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        first = seeds.numpy_rng(options.seed, "first")
        untrained = (draw(first), draw(first))
        constraints = ConstraintSet(settings.constraints, settings.recent, settings.neighbours, untrained)
        loss_of, score_of = loss_function(settings), logits_function(settings.table, statistics=False)
        sums = LossSums()
        scores: list[float] = []
        run.keeps(supernet=supernet, optimizer=optimizer, constraints=constraints, sums=sums, scores=scores)
        for epoch in run.epochs(settings.epochs):
            lr = cosine(settings.lr, settings.lr_min, shifted(epoch, settings.shifted_lr), settings.epochs)
            optimizer.param_groups[0]["lr"] = lr
            supernet.train()
            for step, shares in run.steps(train.in_shares(), epoch):
                rng = seeds.numpy_rng(options.seed, "architecture", epoch, step)
                current = (draw(rng), draw(rng))
                others = constraints.update(current, partial(draw, rng))
                optimizer.zero_grad()
                differentiate(loss_of, supernet, shares, (current, others), sums, step=step, architecture=current)
                zero_fill_grads(supernet.parameters())
                nn.utils.clip_grad_norm_(supernet.parameters(), settings.clip)
                optimizer.step()
            watched = monitored(supernet, score_of, valid, epoch) if settings.monitor else {}
            run.log(epoch=epoch, lr=lr, **sums.read(), **watched, constraints=len(constraints))
        chosen = choose(run, supernet, (train, valid), settings, scores, options.seed)
        return finish(run, chosen, train.images)


def choose(
    run: Run,
    supernet: nn.Module,
    parts: tuple[Batches, Batches],
    settings: SearchRandom,
    scores: list[float],
    seed: int,
) -> list[tuple[Architecture, float]]:
    """Score random cells on the selection part; the best of each round with its accuracy in percent.

    parts: batches for the weights, batches of the selection part. scores: kept by the run, of the cells so far.
    """
    draw, (train, valid) = SAMPLERS[settings.constraint, settings.inputs], parts
    score_of = logits_function(settings.table, statistics=False)
    drawn = candidates(draw, settings.select_rounds, settings.select_candidates, seed)
    for number, architecture in run.each(drawn, "candidates"):
        if settings.recalibrate_batches:
            recalibrate(supernet, architecture, score_of, train, settings.recalibrate_batches)
        scores.append(accuracy(supernet, architecture, score_of, valid, number))
    return winners(drawn, scores, settings.select_candidates)


def finish(run: Run, chosen: list[tuple[Architecture, float]], images: Images, **more: Any) -> dict[str, Any]:
    """Write the best winner. more: stands in the result, too."""
    best, best_score = max(chosen, key=lambda winner: winner[1])
    names = genotype_of(best).as_dict()
    if run.writes:
        save_architecture(run.folder / "architecture.json", "darts", names, {**run.origin, **origin_of(images)})
    metrics = {
        "supernet_accuracy_percent": best_score,
        "supernet_accuracy_mean_of_winners_percent": fmean(score for _, score in chosen),
    }
    said = [[genotype_of(architecture).as_dict(), score] for architecture, score in chosen]
    return run.finish({"metrics": metrics, "architecture": names, "winners": said, **more})


def open_batches(settings: SearchRandom, options: RunOptions, device: torch.device) -> tuple[Batches, Batches]:
    """(batches for the weights, batches of the selection part, in file order and augmented as released)."""
    weights, held = search_parts(settings.dataset, settings.train_images, settings.train_portion, options)
    held = take(held, settings.select_images, "--select-images")
    size = min(settings.select_batch_size, len(held))
    mine: Any = {"sharing": distributed.per_process(), "device": device}
    train = Batches(weights, settings.batch_size, augmentation(weights), Order(options.seed), **mine)
    order = as_they_stand(options.seed, "valid")
    valid = Batches(held, size, augmentation(held), order, augment=settings.select_augment, **mine)
    return train, valid


def loss_function(settings: SearchRandom) -> Loss:
    """The paper's loss, or the released one."""
    logits_of = logits_function(settings.table, settings.unsampled_statistics)
    if settings.constraint_gradient:
        return paper_loss(settings.mix, logits_of)
    return released_loss(settings.mix, logits_of, settings.table)


def monitored(supernet: nn.Module, logits_of: Logits, valid: Batches, epoch: int) -> dict[str, Any]:
    """Accuracies of the four cells that the 2019 notebook watched; each pass draws its own crops and flips."""
    first = -1 - (epoch + 1) * len(MONITORED)
    return {
        f"monitored_{number + 1}_percent": accuracy(supernet, architecture, logits_of, valid, first - number)
        for number, architecture in enumerate(MONITORED)
    }
