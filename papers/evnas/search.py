"""The search, the same loop in both spaces (Method 3 to 6 of the README).

Everything random is a function of (seed, generation, step). Several processes, or one with ``parts``, share every batch
out: gradients are the mean over its images, and running statistics the mean over the shares
(``common.train.batchnorm``), in the fitness passes that move them too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from common.run import seeds
from common.run.device import autocast, pick_device
from common.run.distributed import firsts
from common.run.folder import Run, open_run
from common.run.keep import Values
from common.spaces.architecture import save_architecture
from common.spaces.darts import supernet as darts
from common.spaces.darts.norm import sharpen
from common.spaces.darts.operations import StartsWithReLU
from common.spaces.nasbench201 import network as nasbench201
from common.train.batchnorm import PartStatistics, average
from common.train.compiling import compile_operations
from common.train.loop import gradients, read
from common.train.losses import TopK
from common.train.optim import clip, trained_by
from common.train.schedules import cosine
from common.weights.read import save_weights
from papers.evnas.data import SearchData, batches, open_search_data
from papers.evnas.lookup import Lookup
from papers.evnas.method.evolution import Draws, Rules, evolve
from papers.evnas.method.generations import Generations
from papers.evnas.method.population import SPACES, mixtures
from papers.evnas.settings import Search, SearchDARTS, SearchNB201

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

Forward = Callable[[Tensor, Any], Tensor]  # (images, mixture) -> logits


def search(settings: Search, options: RunOptions) -> dict[str, Any]:
    """Evolve architectures on one supernet:

    population = P random individuals A; one supernet and one SGD optimizer for the whole run
    for generation g = 0, 1, …:
        train:    for batch t of one epoch: SGD step of the supernet with D(A_k), k = t mod P
        fitness:  for each individual: top-1 accuracy of the supernet with D(A_k) on the other half (equal D: once)
        sort by descending fitness (stable)
        evolve:   elite + children (tournaments, crossover by rows, mutation)
    answer: the architecture of the best individual of the last generation
    """
    device, space, seed = pick_device(options), SPACES[settings.space], options.seed
    data = open_search_data(settings, options)
    train, valid = batches(settings, data, seed, device)
    lookup = Lookup(settings.space, data.train.name, options)
    pins = {**data.pins, **lookup.pins}
    with open_run(options, settings, data=pins, pinned=data.pinned, halves=data.origin) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(seed)
        model = supernet_of(settings, len(data.train.classes)).to(device)
        compile_operations(model, options, StartsWithReLU, nasbench201.ReLUConvBN)
        optimizer = sgd(model, settings)
        population = Draws.stream(space, seed, "population").population(settings.population)
        now, counter, past = Values(population=population, scores=[], loss=0.0), TopK(device), Generations(space, seed)
        run.keeps(model=model, optimizer=optimizer, now=now, counter=counter, past=past)

        for g in run.epochs(settings.generations, "generation"):
            optimizer.param_groups[0]["lr"] = lr = cosine(settings.lr, settings.lr_min, g, settings.generations)
            individuals = mixtures(space, now.population, settings.decode_train, settings.beta)
            model.train()
            for t, shares in run.steps(train.in_shares(), g, "train"):
                k = t % len(individuals)
                where = {"generation": g, "step": t, "architecture": k}
                now.loss += descend(model, optimizer, shares, individuals[k], settings.clip, options.precision, where)

            if settings.strategy != "random" or g + 1 == settings.generations:
                individuals = mixtures(space, now.population, settings.decode_fitness, settings.beta)
                forward, measured = for_fitness(model, settings, options.precision), measured_at(settings, individuals)
                for k, individual in run.each(individuals, "fitness"):
                    if measured[k] < k:
                        now.scores.append(now.scores[measured[k]])
                        continue
                    for _, shares in run.steps(valid.in_shares(), g * len(individuals) + k, "images"):
                        measure(forward, shares, individual, counter, options.precision)
                    now.scores.append(score(counter))

            ranked, fitness = past.enter(now.population, now.scores)  # sorted
            past.log(run, lr, now.loss / len(train), lookup)
            draws = Draws.stream(space, seed, "evolve", g)
            if settings.strategy == "evolution":
                now.population = evolve(ranked, fitness, rules(settings), draws)
            else:
                now.population = draws.population(settings.population)
            now.scores, now.loss = [], 0.0

        answer = past.best if settings.strategy == "random-search" else past.last
        save(run, model, past, answer, data)
        return run.finish(past.report(answer, lookup))


def save(run: Run, model: nn.Module, past: Generations, answer: dict[str, Any], data: SearchData) -> None:
    """architecture.json and supernet.safetensors."""
    if isinstance(model, nasbench201.Supernet):
        model.arch_parameters.copy_(past.last["alphas"])  # as the released program leaves them
    if run.writes:
        save_weights(model, run.folder / "supernet.safetensors")
        about = {"dataset": run.settings.dataset, "classes": len(data.train.classes), "pixels": data.train.size}
        architecture = past.space.architecture(answer["alphas"])
        save_architecture(run.folder / "architecture.json", past.space.name, architecture, {**run.origin, **about})


def rules(settings: Search) -> Rules:
    """Sizes and switches of an evolution step."""
    return Rules(
        settings.tournament, settings.elites, settings.mutation_rate, settings.crossover, settings.mutation
    )  # fmt: skip


def supernet_of(settings: Search, classes: int) -> nn.Module:
    """The supernet; its forward takes (images, mixture) and returns logits."""
    if isinstance(settings, SearchNB201):
        return nasbench201.Supernet(
            settings.channels, settings.cells_per_stage, classes, settings.track_running_stats, with_architecture=True
        )
    assert isinstance(settings, SearchDARTS)
    network = darts.Supernet(settings.channels, classes, settings.layers)
    sharpen(network)  # fitness takes large batches, whose statistics the plain kernel sums coarsely on the CPU
    return network


def sgd(model: nn.Module, settings: Search) -> torch.optim.Optimizer:
    """SGD over all weights (Method 3). Alphas get no gradient."""
    return torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], settings.lr, settings.momentum,
        weight_decay=settings.weight_decay, nesterov=settings.nesterov,
    )  # fmt: skip


def descend(
    model: nn.Module, optimizer: torch.optim.Optimizer, shares: list[tuple[Tensor, Tensor]], individual: Any,
    clip_norm: float, precision: str, where: dict[str, int],
) -> Any:  # fmt: skip
    """One SGD step of the supernet with one individual (Method 3); returns the mean loss, on a GPU as a tensor [].

    Raises UserError, which says ``where``, for a loss that is not finite.
    """

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        with autocast(images.device, precision):
            return cross_entropy(model(images, individual), labels)

    optimizer.zero_grad()
    parameters = trained_by(optimizer)
    loss = gradients(model, shares, loss_of, parameters, **where)
    clip(parameters, clip_norm)
    optimizer.step()
    return loss


def for_fitness(model: nn.Module, settings: Search, precision: str) -> Forward:
    """How a trained supernet is run for fitness (Method 4): with the batch's statistics, or with the running ones.

    These are folded into the convolutions where that is exact enough.
    """
    if settings.fitness_bn == "batch":
        return model.train()
    model.eval()
    tracked = isinstance(settings, SearchNB201) and settings.track_running_stats
    if isinstance(model, nasbench201.Supernet) and tracked and precision == "fp32":
        folded = nasbench201.fold(model)
        return lambda images, mixture: folded(images, mixture.to(images))
    return model


def measured_at(settings: Search, individuals: list[Any]) -> list[int]:
    """For each individual the place of the first with the same mixture, whose fitness is its own too.

    Its own place where passes differ: they move the running statistics, use those of a batch, or augment the images.
    """
    tracked = not isinstance(settings, SearchNB201) or settings.track_running_stats
    if settings.fitness_bn == "batch" or settings.fitness_augment or not tracked:
        return list(range(len(individuals)))
    return firsts(np.asarray(individual).tobytes() for individual in individuals)


@torch.no_grad()
def measure(
    forward: Forward, shares: list[tuple[Tensor, Tensor]], individual: Any, counter: TopK, precision: str
) -> None:
    """Count the hits of an individual on one batch (Method 4).

    A supernet in train mode normalises by its share of the batch and moves its running statistics.
    """
    moving = forward if isinstance(forward, nn.Module) and forward.training else None
    together = PartStatistics(moving) if moving is not None and len(shares) > 1 else None
    for images, labels in shares:
        if not len(labels):
            continue
        with autocast(images.device, precision):
            logits = forward(images, individual)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        counter.add(logits, labels, cross_entropy(logits, labels))
        if together is not None:
            together.collect(len(labels))
    if together is not None:
        together.finish()
    elif moving is not None:
        average(moving, sum(len(labels) for _, labels in shares))


def score(counter: TopK) -> list[Any]:
    """Top-1 and top-5 accuracy in percent (top-5 None with fewer than six classes) and loss in nats of an individual,
    over all processes; the counter is empty afterwards.
    """
    metrics = read(counter)
    top5 = None if metrics.top5_error is None else 100 - metrics.top5_error
    return [100 - metrics.top1_error, top5, metrics.loss]
