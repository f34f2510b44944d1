"""The search (section 3), the same loop in both spaces.

    population = P random individuals A; one supernet and one SGD optimizer for the whole run
    for generation g = 0, 1, …:
        train:    for batch t of one epoch: SGD step of the supernet with D(A_k), k = t mod P
        fitness:  for each individual: top-1 accuracy of the supernet with D(A_k) on the other half
        sort by descending fitness (stable)
        evolve:   elite + children (tournaments, crossover by rows, mutation)
    answer: the architecture of the best individual of the last generation

Everything random is a function of (seed, generation, step), so a run stopped anywhere goes on as if it had not been.
Several processes, or one with ``parts``, share every batch out: gradients are the mean over its images, and running
statistics the mean over the shares (``common.train.batchnorm``), in the fitness passes that move them too.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from common.cli.errors import UserError
from common.run import files as records
from common.run import seeds
from common.run.folder import Run, check_finite, open_run
from common.spaces.architecture import save_architecture
from common.spaces.darts import supernet as darts_supernet
from common.spaces.darts.norm import sharpen
from common.spaces.nasbench201 import network as nasbench201
from common.train import distributed
from common.train.batchnorm import PartStatistics, average
from common.train.device import autocast, pick_device
from common.train.loop import read
from common.train.losses import TopK
from common.train.optim import clip
from common.train.schedules import cosine
from common.weights.read import save_weights
from papers.evnas.data import batches, open_parts
from papers.evnas.lookup import Lookup
from papers.evnas.method.evolution import Draws, Rules, check_rules, ranking, successor
from papers.evnas.method.population import S1, S2, mixtures
from papers.evnas.ranges import check_search
from papers.evnas.settings import SearchS1, SearchSettings

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

Forward = Callable[[Tensor, Any], Tensor]  # (images, mixture) -> logits
Score = list[Any]  # top-1 and top-5 accuracy in percent (top-5 None with fewer than six classes), loss in nats


@dataclass
class Progress:
    """Where a run stands; all that a saved state holds besides weights, optimizer and generators."""

    population: Tensor  # [P, rows, operations], sorted by the last fitness until the next evolution
    generation: int = 0
    step: int = 0  # training batches done in this generation
    loss: float = 0.0  # their summed loss, over the whole batches
    batch: int = 0  # fitness batches done of the individual at hand
    totals: Tensor = field(default_factory=lambda: torch.zeros(4, dtype=torch.float64))  # its counts so far
    scores: list[Score] = field(default_factory=list)  # of the individuals done
    last: dict[str, Any] = field(default_factory=dict)  # best individual of the last generation measured
    best: dict[str, Any] = field(default_factory=dict)  # best individual of all generations
    trajectory: list[str] = field(default_factory=list)  # in S2 a random cell first; then the best of every generation
    populations: list[Tensor] = field(default_factory=list)  # of the generations done, numbered as in individuals.csv
    fitness: list[list[float]] = field(default_factory=list)  # theirs (NaN: not measured)

    def next_generation(self, population: Tensor) -> None:
        """Go on with the next population."""
        self.population, self.generation = population, self.generation + 1
        self.step, self.loss, self.batch, self.scores = 0, 0.0, 0, []
        self.totals = torch.zeros(4, dtype=torch.float64)


def search(settings: SearchSettings, options: RunOptions) -> dict:
    """Search in S1 or S2; writes architecture.json, supernet.safetensors, history.csv, individuals.csv and
    populations.npz."""
    device = pick_device(options)
    space = S1 if isinstance(settings, SearchS1) else S2
    rules = Rules(
        settings.tournament, settings.elites, settings.mutation_rate, settings.crossover, settings.mutation
    )  # fmt: skip
    check(settings, options, rules)
    *parts, pins, halves = open_parts(settings, options)
    train, valid = batches(settings, (parts[0], parts[1]), options.seed, device)
    evolve = successor(settings.strategy, rules)
    only_last = settings.strategy == "random"
    answer = "best" if settings.strategy == "random-search" else "last"
    lookup = Lookup(settings, options, parts[0].name)
    pins = {**parts[0].pins, **pins, **lookup.pins}
    with open_run(options, settings, {"data": pins, "pinned": all(p.pinned for p in parts), "halves": halves}) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = build(settings, len(parts[0].classes)).to(device)
        optimizer = make_sgd(model, settings)
        score_with = scorer(settings, options.precision)
        population = Draws.stream(space, options.seed, "population").population(settings.population)
        now = Progress(population)
        if space is S2:  # the supernet is born with alphas of its own, and their cell heads the released list
            own = Draws.stream(space, options.seed, "supernet").individual()
            model.arch_parameters.copy_(own)
            now.trajectory.append(space.text(own))
        if state := run.load():
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            now = Progress(**state["progress"])

        def save() -> None:
            totals = now.totals.clone()
            distributed.all_reduce_sum([totals])  # what the processes have counted of the individual at hand
            progress = {**vars(now), "totals": totals}
            run.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "progress": progress})

        def save_if_due() -> None:
            if run.due():
                save()

        while now.generation < settings.generations:
            g = now.generation
            lr = cosine(settings.learning_rate, settings.learning_rate_min, g, settings.generations)
            individuals = mixtures(space, now.population, settings.decode_train, settings.beta)
            train_weights(model, optimizer, train, individuals, now, lr, settings.clip, options.precision, save_if_due)
            if not only_last or g + 1 == settings.generations:
                individuals = mixtures(space, now.population, settings.decode_fitness, settings.beta)
                measure(score_with(model), valid, individuals, now, device, options.precision, save_if_due)
            order = ranking([top1 for top1, *_ in now.scores]) if now.scores else list(range(settings.population))
            texts = [space.text(alphas) for alphas in now.population]
            for k, (top1, top5, loss) in enumerate(now.scores):
                run.log("individuals", generation=g, individual=k, top1=top1, top5=top5, loss=loss, cell=texts[k])
            ranked = [now.scores[k] for k in order] if now.scores else []
            now.populations.append(now.population)
            now.fitness.append([top1 for top1, *_ in now.scores] or [math.nan] * settings.population)
            keep_populations(run, now)
            now.population = now.population[order]
            if space is S2:
                model.arch_parameters.copy_(now.population[0])  # as the released program leaves them
            crown(now, ranked, texts[order[0]])
            run.log(**row(now, lr, len(train), ranked, texts[order[0]]), **lookup.columns(texts[order[0]]))
            fitness = [top1 for top1, *_ in ranked]
            now.next_generation(evolve(now.population, fitness, Draws.stream(space, options.seed, "evolve", g)))
            save()

        chosen = now.best if answer == "best" else now.last
        architecture = space.architecture(chosen["alphas"])
        if run.writes:
            save_weights(model, run.folder / "supernet.safetensors")
            about = {"dataset": settings.dataset, "classes": len(parts[0].classes), "pixels": parts[0].size}
            save_architecture(run.folder / "architecture.json", space.name, architecture, {**run.origin, **about})
        return run.finish(report(now, chosen, architecture, space.text(chosen["alphas"]), lookup))


def keep_populations(run: Run, now: Progress) -> None:
    """populations.npz: ``alphas`` float32 [generations, P, rows, operations] and ``fitness`` [generations, P] (top-1 in
    percent, NaN where it was not measured) of every generation so far, individuals as numbered in individuals.csv."""
    if run.writes:
        file = io.BytesIO()
        np.savez(file, alphas=torch.stack(now.populations).numpy(), fitness=np.array(now.fitness))
        records.write_bytes(run.folder / "populations.npz", file.getvalue())


def check(settings: SearchSettings, options: RunOptions, rules: Rules) -> None:
    """Raises UserError for settings that no search can run with, or that do nothing beside the others."""
    check_search(settings, options)
    check_rules(settings.population, rules)
    if settings.generations < 1:
        raise UserError(f"--generations {settings.generations}: at least one is needed")
    if settings.beta <= 0:
        raise UserError(f"--beta {settings.beta} does not favour the chosen operations; give a positive number")
    if settings.nesterov and not settings.momentum:
        raise UserError("Nesterov's form needs a momentum; raise --momentum above 0 or add --no-nesterov")
    if isinstance(settings, SearchS1) and settings.layers < 3:
        raise UserError(f"--layers {settings.layers}: two reduction cells and a normal one need at least 3")


def build(settings: SearchSettings, classes: int) -> nn.Module:
    """The supernet; its forward takes (images, mixture) and returns logits."""
    if isinstance(settings, SearchS1):
        network = darts_supernet.Supernet(settings.channels, classes, settings.layers)
        sharpen(network)  # fitness takes large batches, whose statistics the plain kernel sums coarsely on the CPU
        return network
    return nasbench201.Supernet(
        settings.channels, settings.cells_per_stage, classes, settings.track_running_stats, with_architecture=True
    )


def make_sgd(model: nn.Module, settings: SearchSettings) -> torch.optim.Optimizer:
    """SGD over all weights; Nesterov in S2 only. Alphas get no gradient."""
    weights = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(
        weights, settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay,
        nesterov=settings.nesterov,
    )  # fmt: skip


def scorer(settings: SearchSettings, precision: str = "fp32") -> Callable[[nn.Module], Forward]:
    """How a trained supernet is run for fitness: with batch statistics, or folded or plain with the running ones."""

    def of_batch(model: nn.Module) -> Forward:
        return model.train()

    def running(model: nn.Module) -> Forward:
        return model.eval()

    def folded(model: nn.Module) -> Forward:
        run = nasbench201.fold(model.eval())
        return lambda x, weights: run(x, weights.to(x))

    if settings.fitness_bn == "batch":
        return of_batch
    can_fold = not isinstance(settings, SearchS1) and settings.track_running_stats and precision == "fp32"
    return folded if can_fold else running


def train_weights(
    model: nn.Module, optimizer: torch.optim.Optimizer, train: Any, individuals: list[Any], now: Progress, lr: float,
    clip_norm: float, precision: str, save_if_due: Callable[[], None],
) -> None:  # fmt: skip
    """One epoch; batch t trains the supernet with individual t mod P. Raises UserError for a loss that is not
    finite."""
    model.train()
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    for group in optimizer.param_groups:
        group["lr"] = lr
    for step, shares in enumerate(train.shares(now.generation, now.step), start=now.step):
        k, images = step % len(individuals), sum(len(y) for _, y in shares)
        optimizer.zero_grad()
        together = PartStatistics(model) if len(shares) > 1 else None
        total = torch.zeros((), dtype=torch.float64)
        for x, y in shares:
            if len(y):
                with autocast(x.device, precision):
                    loss = cross_entropy(model(x, individuals[k]), y) * (len(y) / images)
                loss.backward()
                total += float(loss.detach())
            if together:
                together.collect(len(y))
        distributed.all_reduce_mean([total], weight=images)
        check_finite(total, generation=now.generation, step=step, architecture=k)
        together.finish() if together else average(model, images)
        distributed.reduce_gradients(weights, images)
        clip(weights, clip_norm)
        optimizer.step()
        now.loss += float(total)
        now.step = step + 1
        save_if_due()


@torch.no_grad()
def measure(
    forward: Forward, valid: Any, individuals: list[Any], now: Progress, device: torch.device | str, precision: str,
    save_if_due: Callable[[], None],
) -> None:  # fmt: skip
    """Fitness of every individual into ``now.scores``: each passes over all fitness images, in an order of its own.

    A supernet in train mode normalises by its share of the batch and moves its running statistics.
    """
    moving = forward if isinstance(forward, nn.Module) and forward.training else None
    for k in range(len(now.scores), len(individuals)):
        counter = TopK(device)
        counter.restore(now.totals)
        passes = valid.shares(now.generation * len(individuals) + k, now.batch)
        for number, shares in enumerate(passes, start=now.batch):
            together = PartStatistics(moving) if moving is not None and len(shares) > 1 else None
            for x, y in shares:
                if len(y):
                    with autocast(x.device, precision):
                        logits = forward(x, individuals[k])
                    logits = logits if logits.dtype == torch.float64 else logits.float()
                    counter.add(logits, y, cross_entropy(logits, y))
                if together:
                    together.collect(len(y))
            if moving is not None:
                together.finish() if together else average(moving, sum(len(y) for _, y in shares))
            now.batch, now.totals = number + 1, counter.totals
            save_if_due()
        metrics = read(counter)
        top5 = None if metrics.top5_error is None else 100 - metrics.top5_error
        now.scores.append([100 - metrics.top1_error, top5, metrics.loss])
        now.batch, now.totals = 0, torch.zeros(4, dtype=torch.float64)


def crown(now: Progress, ranked: list[Score], text: str) -> None:
    """Note the best individual of this generation, and of all so far (the first to reach its fitness).

    Without fitness (strategy random) the first individual stands in.
    """
    top1, top5, loss = ranked[0] if ranked else (None, None, None)
    now.last = {
        "alphas": now.population[0].clone(), "generation": now.generation, "top1": top1, "top5": top5, "loss": loss,
        "cell": text,
    }  # fmt: skip
    if not now.best or (top1 is not None and (now.best["top1"] is None or top1 > now.best["top1"])):
        now.best = now.last
    now.trajectory.append(text)


def row(now: Progress, lr: float, steps: int, ranked: list[Score], text: str) -> dict[str, Any]:
    """The history's row of a generation (empty cells where fitness was not measured)."""
    fitness = [top1 for top1, *_ in ranked]
    return {
        "generation": now.generation,
        "lr": lr,
        "train_loss": now.loss / steps,
        "fitness_best": fitness[0] if fitness else None,
        "fitness_mean": fmean(fitness) if fitness else None,
        "fitness_worst": fitness[-1] if fitness else None,
        "top5_of_best": ranked[0][1] if ranked else None,
        "loss_of_best": ranked[0][2] if ranked else None,
        "best_so_far": now.best["top1"],
        "cell": text,
    }


def report(now: Progress, chosen: dict[str, Any], architecture: Any, text: str, lookup: Lookup) -> dict[str, Any]:
    """The result: best of the last generation (the paper's answer) and best of all generations."""
    last, best = now.last, now.best
    return {
        "metrics": {
            "fitness_last_percent": last["top1"],
            "fitness_best_percent": best["top1"],
            "fitness_chosen_percent": chosen["top1"],
            "best_generation": best["generation"],
            **lookup.metrics(text),
        },
        "architecture": architecture,
        "last_generation_best": now.trajectory[-1],
        "best_so_far": best["cell"],
        "trajectory": now.trajectory,
        **lookup.report(text, now.trajectory),
    }


def plan(settings: SearchSettings, options: RunOptions) -> list[str]:
    """What a run would do: images per generation, supernet size."""
    *parts, _, halves = open_parts(settings, options)
    batches(settings, (parts[0], parts[1]), options.seed, torch.device("cpu"))  # finds what cannot be shared out
    check(settings, options, Rules(settings.tournament, settings.elites, settings.mutation_rate))
    train, fit = len(parts[0]), len(parts[1])
    weights = sum(p.numel() for p in build(settings, len(parts[0].classes)).parameters() if p.requires_grad)
    measured = 1 if settings.strategy == "random" else settings.generations
    passes = settings.population * fit
    return [
        f"{parts[0].name}: {train} images for the weights, {fit} for the fitness ({halves})",
        f"supernet of {weights:,} weights, {settings.population} individuals, {settings.generations} generations",
        f"training: {settings.generations} x {-(-train // settings.batch_size)} steps of {settings.batch_size} images",
        f"fitness: {measured} x {passes:,} images forward ({settings.population} individuals)",
        *estimate(settings, parts[0].size, settings.generations * train, measured * passes),
    ]


def estimate(settings: SearchSettings, size: int, trained: int, measured: int) -> list[str]:
    """Time on one core and memory, scaled from the cost of the published supernets (rough: a factor of two)."""
    first = isinstance(settings, SearchS1)
    depth = settings.layers / 8 if first else settings.cells_per_stage / 5
    scale = depth * (settings.channels / 16) ** 1.3 * (size / 32) ** 2
    step, forward = (0.25, 0.03) if first else (0.05, 0.012)  # seconds an image
    seconds = scale * (step * trained + forward * measured)
    memory = 0.3 + scale * settings.batch_size * (0.1 if first else 0.05)
    return [f"about {seconds / 3600:.2g} h on one CPU core, {memory:.1f} GB of memory"]
