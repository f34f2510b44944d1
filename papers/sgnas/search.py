"""The search: train the unified supernet, then train the generator against the fixed supernet.

Algorithm of the paper (section 3):
    phase 1  for each batch: 4 paths with different expansion rates, add up their gradients, one SGD step
    phase 2  for each batch: target t; p = Gumbel-softmax(generator(t, prior));
             CE(supernet(x; p)) + L_hc(F(p), t); one Adam step for the generator
    then     any number of targets: arg-max of generator(t, prior)
Each phase can be resumed at any batch, and run alone from the other's output.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import distributed, seeds
from common.device import autocast, pick_device
from common.errors import UserError
from common.records import write_json
from common.runs import check_finite, open_run, say
from common.schedules import cosine
from papers.sgnas import datasets
from papers.sgnas.architectures import Macro
from papers.sgnas.describe import counts
from papers.sgnas.frozen import FrozenSupernet
from papers.sgnas.generate import LoadedGenerator, save_generator, table, table_to, write_architectures
from papers.sgnas.generator import Generator, gumbel_noise
from papers.sgnas.generator_training import (
    build_optimizer,
    fit_to_targets,
    generate_ops,
    generator_loss,
    path_error,
    targets_of_step,
)
from papers.sgnas.latency import read_table
from papers.sgnas.lookup import Lookup, cost_range, macs_table
from papers.sgnas.losses import temperature
from papers.sgnas.prior import PriorPool, make_pool, pool_from, read_pool
from papers.sgnas.ranges import check_ranges
from papers.sgnas.recalibration import judge
from papers.sgnas.sampling import sample_paths
from papers.sgnas.settings import SearchSettings
from papers.sgnas.supernet import Supernet, load_supernet, save_supernet
from papers.sgnas.supernet_training import PathSGD, path_errors, supernet_gradients


@dataclass
class Setting:
    """What both phases share."""

    settings: SearchSettings
    device: torch.device
    precision: str
    seed: int
    macro: Macro
    classes: int
    train: datasets.Loader
    validation: datasets.Loader
    pinned: bool
    pins: dict[str, str]


def prepare(settings: SearchSettings, options: Any) -> Setting:
    """Open the data and split it: the supernet's images, and those for training and choosing the generator."""
    if not settings.low < settings.high:
        raise UserError(f"--low {settings.low:g} is not below --high {settings.high:g}")
    check_targets(settings)
    device = pick_device(options)
    distributed.setup()
    images = datasets.open_set(settings.dataset, "train", options)
    opened = datasets.describe_set(settings.dataset, images, settings.macro)
    train, search = datasets.split_indices(
        settings.dataset,
        len(images),
        settings.train_portion,
        settings.train_images,
        settings.search_images,
        options.seed,
    )
    share = (datasets.per_process(settings.batch_size), options.seed, device)
    return Setting(
        settings,
        device,
        options.precision,
        options.seed,
        opened.macro,
        opened.classes,
        datasets.loader(settings.dataset, images.subset(train), *share, "search", "supernet", settings.workers),
        datasets.loader(settings.dataset, images.subset(search), *share, "validation", "generator", settings.workers),
        opened.pinned,
        opened.pins,
    )


def check_targets(c: SearchSettings) -> None:
    """Raises UserError for a setting out of range, and when the architectures wanted at the end lie where the
    generator is not trained.
    """
    check_ranges(c)
    if not c.targets:
        raise UserError("no targets; give at least one, such as --targets 320")
    for target in c.targets:
        if not c.low <= target <= c.high:
            raise UserError(
                f"target {target:g} is outside the range {c.low:g} to {c.high:g} that the generator is trained for, "
                f"where its answer saturates or turns round; change --targets, or widen --low and --high"
            )


def train_supernet(s: Setting, run: Any, state: dict[str, Any]) -> Supernet:
    """Phase 1. Writes supernet.safetensors after every epoch (the last one counts, not the best)."""
    c = s.settings
    weights = seeds.generator(s.seed, "supernet weights")
    supernet = Supernet(s.macro, s.classes, c.bn_momentum, weights, c.switchable_bn).to(s.device)
    optimizer = PathSGD(supernet, c.momentum, c.weight_decay, c.gradients)
    if state:
        supernet.load_state_dict(state["supernet"])
        optimizer.load_state_dict(state["sgd"])
    first, begin = state.get("epoch", 0), state.get("step", 0)
    total = state.get("loss", torch.zeros((), device=s.device)).to(s.device)
    horizon, layers = len(s.train) * c.cosine_epochs, len(s.macro.layers)
    alone = distributed.world_size() == 1  # statistics inside an epoch are each process's own
    for epoch in range(first, c.supernet_epochs):
        supernet.train()
        batches = enumerate(s.train.epoch(epoch, begin), begin)
        for step, (x, y) in run.progress(batches, f"supernet epoch {epoch}", initial=begin):
            rng = seeds.numpy_rng(s.seed, "paths", epoch, step)
            paths = sample_paths(rng, layers, c.paths, c.active)
            with autocast(s.device, s.precision):
                losses = supernet_gradients(supernet, x, y, paths, c.label_smoothing)
            check_finite(torch.stack(losses).sum(), step=step, architecture=paths)
            distributed.all_reduce_mean(p.grad for p in supernet.parameters())
            optimizer.step(cosine(c.learning_rate, 0.0, epoch * len(s.train) + step, horizon), paths)
            total += torch.stack(losses).mean()
            if alone and run.due():
                run.save(_supernet_state(epoch, step + 1, total, supernet, optimizer))
        distributed.all_reduce_mean([total, *(b for b in supernet.buffers() if b.is_floating_point())])
        loss, error = path_errors(supernet, s.validation, seeds.numpy_rng(s.seed, "validation paths", epoch), c.active)
        run.log(**_row("supernet", epoch, float(total) / len(s.train), loss, error))
        total.zero_()
        begin = 0
        if run.writes:
            save_supernet(run.folder, supernet, c.dataset)
        run.save(_supernet_state(epoch + 1, 0, total, supernet, optimizer))
    return supernet


def _supernet_state(epoch: int, step: int, loss: torch.Tensor, supernet: Supernet, sgd: PathSGD) -> dict[str, Any]:
    state = {"supernet": supernet.state_dict(), "sgd": sgd.state_dict(), "loss": loss.clone()}
    return {"phase": "supernet", "epoch": epoch, "step": step, **state}


def train_generator(
    s: Setting, run: Any, state: dict[str, Any], supernet: Supernet, pool: PriorPool, lookup: Lookup
) -> Generator:
    """Phase 2; returns the "best average" generator (else the one with the lowest hardware loss)."""
    c = s.settings
    frozen = FrozenSupernet(supernet.eval())
    shape = (c.constraint_channels, c.width, c.generator_layers)
    generator = Generator(*shape, seeds.generator(s.seed, "generator weights")).to(s.device)
    adam = build_optimizer(generator, c.generator_lr)
    best: dict[str, Any] = {"total": float("inf"), "error": float("inf"), "epoch": -1}
    best |= {"generator": None, "average": None}
    if state:
        generator.load_state_dict(state["generator"])
        adam.load_state_dict(state["adam"])
        best = state["best"]
    first, begin = state.get("epoch", 0), state.get("step", 0)
    sums = state.get("sums", torch.zeros(2, device=s.device)).to(s.device)
    alone = distributed.world_size() == 1
    noise_shape = (c.targets_per_step, len(s.macro.layers), 6, 4)
    for epoch in range(first, c.generator_epochs):
        tau = temperature(epoch, c.tau, c.tau_decay)
        batches = enumerate(s.validation.epoch(epoch, begin), begin)
        for step, (x, y) in run.progress(batches, f"generator epoch {epoch}", initial=begin):
            number = epoch * len(s.validation) + step
            targets = targets_of_step(c.low, c.high, c.target_step, c.target_noise, c.targets_per_step, s.seed, number)
            noise = gumbel_noise(noise_shape, seeds.generator(s.seed, "gumbel", number))
            with autocast(s.device, s.precision):
                constants = (c.alpha, c.loss_penalty, c.label_smoothing)
                losses = generator_loss(frozen, generator, lookup, pool, x, y, targets, tau, noise, *constants)
            check_finite(losses.total.detach(), step=step, architecture=targets)
            adam.zero_grad()
            losses.total.backward()
            distributed.all_reduce_mean(p.grad for p in generator.parameters())
            adam.step()
            sums += torch.stack([losses.cross_entropy, losses.hardware]).detach()
            if alone and run.due():
                run.save(_generator_state(epoch, step + 1, sums, generator, adam, best))
        middle = (c.low + c.high) / 2
        ops = generate_ops(generator, pool, [middle], s.device)[0].tolist()
        scored = judge(supernet, frozen, ops, s.train, c.recalibrate)
        loss, error = path_error(scored, ops, s.validation, epoch)
        fit = fit_to_targets(generator, lookup, pool, c.validation_step, c.alpha, c.loss_penalty)
        weights = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
        if fit.total < best["total"]:
            best.update(total=fit.total, generator=weights)
            if run.writes:
                write_json(
                    run.folder / "best_fit.json", {"targets": fit.targets, "costs": fit.costs, "total": fit.total}
                )
        if error < best["error"] and fit.total < c.accept_loss:
            best.update(error=error, average=weights, epoch=epoch)
        distributed.all_reduce_mean([sums])
        means = (sums / len(s.validation)).tolist()
        run.log(**_row("generator", epoch, means[0], loss, error, means[1], fit.total, fit.kendall, tau))
        sums.zero_()
        begin = 0
        run.save(_generator_state(epoch + 1, 0, sums, generator, adam, best))
    chosen = best["average"] or best["generator"]
    if best["average"] is None:
        say(f"note: no epoch had a total hardware loss below {c.accept_loss:g}; the one with the lowest is used")
    generator.load_state_dict(chosen)
    return generator


def _generator_state(
    epoch: int, step: int, sums: torch.Tensor, generator: Generator, adam: torch.optim.Adam, best: dict[str, Any]
) -> dict[str, Any]:
    state = {"generator": generator.state_dict(), "adam": adam.state_dict(), "sums": sums.clone(), "best": dict(best)}
    return {"phase": "generator", "epoch": epoch, "step": step, **state}


def search(settings: SearchSettings, options: Any) -> dict[str, Any]:
    """Both phases."""
    return _search(settings, options, ("supernet", "generator"))


def search_supernet(settings: SearchSettings, options: Any) -> dict[str, Any]:
    """Phase 1 alone: supernet.safetensors."""
    return _search(settings, options, ("supernet",))


def search_generator(settings: SearchSettings, options: Any) -> dict[str, Any]:
    """Phase 2 alone, from ``--supernet FILE``."""
    if not settings.supernet:
        raise UserError("a generator-only search needs a trained supernet: --supernet FOLDER/supernet.safetensors")
    return _search(settings, options, ("generator",))


def _search(settings: SearchSettings, options: Any, phases: tuple[str, ...]) -> dict[str, Any]:
    if "generator" in phases and settings.generator_epochs < 1:
        raise UserError("no generator epoch is wanted; set --generator-epochs to 1 or more, or use search-supernet")
    if "supernet" in phases and settings.supernet_epochs < 1:
        raise UserError("no supernet epoch is wanted; set --supernet-epochs to 1 or more, or use search-generator")
    s = prepare(settings, options)
    with open_run(options, settings, {"phases": list(phases), "data": s.pins, "pinned": s.pinned}) as run:
        if run.result is not None:
            return run.result
        lookup = (
            read_table(Path(settings.latency_table), s.macro) if settings.latency_table else macs_table(s.macro)
        ).to(s.device)
        pool = None
        if "generator" in phases:  # what can be wrong with the settings is found before an epoch is trained
            pool = prior_pool(run.folder, settings, lookup)
        state = run.load() or {}
        in_generator = state.get("phase") == "generator"
        if "supernet" in phases and not in_generator:
            supernet = train_supernet(s, run, state)
        else:
            file = Path(settings.supernet) if "supernet" not in phases else run.folder / "supernet.safetensors"
            supernet = load_supernet(file, s.macro, s.classes, settings.switchable_bn).to(s.device)
        if pool is None:
            return run.finish({"metrics": {"supernet_parameters": sum(p.numel() for p in supernet.parameters())}})
        generator = train_generator(s, run, state if in_generator else {}, supernet, pool, lookup)
        return run.finish(conclude(s, run, generator, pool, lookup))


def prior_pool(folder: Path, c: SearchSettings, lookup: Lookup) -> PriorPool:
    """The pool named in the settings, the run's own, or a fresh one; checked against range and table."""
    cheapest, dearest = cost_range(lookup)
    if c.high < cheapest or c.low > dearest:
        raise UserError(
            f"targets {c.low:g} to {c.high:g} lie outside this space ({cheapest:.1f} to {dearest:.1f} {lookup.unit})"
        )
    own = folder / "prior_pool.json"
    if c.prior_pool or own.exists():
        pool = read_pool(Path(c.prior_pool) if c.prior_pool else own, c.low, c.high)
        pool.check(c.low, c.high, lookup)
        return pool
    pool = make_pool(lookup, c.low, c.high, c.pool_size, np.random.RandomState(c.prior_seed), c.prior_tolerance)
    if distributed.rank() == 0:
        write_json(own, pool.to_json())
    return pool_from(pool.to_json(), str(own))


def conclude(s: Setting, run: Any, generator: Generator, pool: PriorPool, lookup: Lookup) -> dict[str, Any]:
    """Write the generator and an architecture for every target; the metrics of the search."""
    c = s.settings
    generator, lookup = generator.cpu().eval(), lookup.to("cpu")
    shape = {"constraint_channels": c.constraint_channels, "width": c.width, "layers": c.generator_layers}
    if distributed.rank() == 0:
        own_table = table_to(lookup) if c.latency_table else None
        save_generator(run.folder, generator, pool, s.macro, shape, own_table)
    fit = fit_to_targets(generator, lookup, pool, c.validation_step, c.alpha, c.loss_penalty)
    loaded = LoadedGenerator(generator, pool, s.macro, lookup, "search")
    targets = sorted(float(t) for t in c.targets)
    found = [(t, kernels, cost) for t, (kernels, cost) in zip(targets, loaded.kernels(targets))]
    if distributed.rank() == 0:
        origin = {"paper": "sgnas", "stage": "search", "seed": s.seed}
        write_architectures(run.folder, s.macro, lookup.unit, found, origin)
    rows = [
        {"target": t, "lookup_cost": cost, **counts(k, s.macro, s.classes, False), "kernels": k} for t, k, cost in found
    ]
    say(table(rows, lookup.unit))
    middle = rows[len(rows) // 2]
    metrics = {
        "total_hardware_loss": fit.total,
        "kendall_tau": fit.kendall,
        "parameters": middle["parameters"],
        "macs": middle["macs"],
        "largest_miss": max(abs(row["lookup_cost"] - row["target"]) for row in rows),
    }
    architecture = {"kernels": middle["kernels"], "macro": s.macro.name}
    return {"metrics": metrics, "architecture": architecture, "architectures": rows}


def _row(
    phase: str,
    epoch: int,
    loss: float,
    validation_loss: float,
    validation_error: float,
    hardware_loss: float | None = None,
    total_hardware_loss: float | None = None,
    kendall_tau: float | None = None,
    tau: float | None = None,
) -> dict[str, Any]:
    """One row of history.csv; columns that do not apply to the supernet phase stay empty."""
    return {
        "phase": phase,
        "epoch": epoch,
        "loss": loss,
        "hardware_loss": hardware_loss,
        "validation_loss": validation_loss,
        "validation_top1_error_percent": validation_error,
        "total_hardware_loss": total_hardware_loss,
        "kendall_tau": kendall_tau,
        "tau": tau,
    }
