"""The search: train the unified supernet, then train the generator against the fixed supernet.

Algorithm of the paper (section 3):
    phase 1  for each batch: 4 paths with different expansion rates, add up their gradients, one SGD step
    phase 2  for each batch: target t; p = Gumbel-softmax(generator(t, prior));
             CE(supernet(x; p)) + L_hc(F(p), t); one Adam step for the generator
    then     any number of targets: arg-max of generator(t, prior)
Each phase can be resumed at any batch, and run alone from the other's output.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from common.run import seeds
from common.run.files import write_json
from common.run.folder import check_finite, open_run, say
from common.train import distributed
from common.train.device import autocast
from common.train.schedules import cosine
from papers.sgnas.data.search_data import Setting, check_settings, prepare, prior_pool
from papers.sgnas.describe import counts
from papers.sgnas.generate import LoadedGenerator, save_generator, table, table_to, write_architectures
from papers.sgnas.method.generator import Generator, gumbel_noise
from papers.sgnas.method.generator_training import (
    build_optimizer,
    fit_to_targets,
    generate_ops,
    generator_loss,
    path_error,
    targets_of_step,
)
from papers.sgnas.method.lookup import Lookup, macs_table
from papers.sgnas.method.losses import temperature
from papers.sgnas.method.prior import PriorPool
from papers.sgnas.method.sampling import sample_paths, trained_code
from papers.sgnas.method.scoring import judge
from papers.sgnas.method.supernet_training import PathSGD, path_errors, supernet_gradients
from papers.sgnas.network.fixed_supernet import FrozenSupernet
from papers.sgnas.network.supernet import Supernet, load_supernet, save_supernet
from papers.sgnas.settings import SearchSettings
from papers.sgnas.studies.latency import read_table


def train_supernet(s: Setting, run: Any, state: dict[str, Any]) -> Supernet:
    """Phase 1, from fresh weights or those of ``--supernet``. Writes supernet.safetensors after every epoch (the last
    one counts, not the best).
    """
    c = s.settings
    weights = seeds.generator(s.seed, "supernet weights")
    supernet = Supernet(s.macro, s.classes, c.bn_momentum, weights, c.switchable_bn)
    if c.supernet:
        supernet.load_state_dict(given_supernet(s).state_dict())
    supernet.to(s.device)
    optimizer = PathSGD(supernet, c.momentum, c.weight_decay, c.gradients)
    if state:
        supernet.load_state_dict(state["supernet"])
        optimizer.load_state_dict(state["sgd"])
    first, begin = state.get("epoch", 0), state.get("step", 0)
    total = state.get("loss", torch.zeros((), device=s.device)).to(s.device)
    horizon, layers = len(s.train) * c.cosine_epochs, len(s.macro.layers)
    for epoch in range(first, c.supernet_epochs):
        supernet.train()
        batches = enumerate(s.train.epoch(epoch, begin), begin)
        for step, (x, y) in run.progress(batches, f"supernet epoch {epoch}", initial=begin):
            rng = seeds.numpy_rng(s.seed, "paths", epoch, step)
            paths = sample_paths(rng, layers, c.paths, c.active)
            with autocast(s.device, s.precision):
                losses = supernet_gradients(supernet, x, y, paths, c.label_smoothing, s.train.share_sizes(step))
            loss = torch.stack(losses).mean()
            distributed.all_reduce_mean([loss], weight=len(y))
            check_finite(loss, step=step, architecture=paths)
            distributed.reduce_gradients(supernet.parameters(), len(y))
            optimizer.step(cosine(c.learning_rate, 0.0, epoch * len(s.train) + step, horizon), paths)
            total += loss
            if run.due():
                run.save(_supernet_state(epoch, step + 1, total, supernet, optimizer))
        rng = seeds.numpy_rng(s.seed, "validation paths", epoch)
        loss, error = path_errors(supernet, s.validation, rng, c.active, epoch)
        run.log(**_row("supernet", epoch, float(total) / len(s.train), loss, error))
        total.zero_()
        begin = 0
        if run.writes:
            save_supernet(run.folder, supernet, c.dataset, s.provenance.to_json())
        run.save(_supernet_state(epoch + 1, 0, total, supernet, optimizer))
    if run.writes and not c.supernet_epochs:  # the given one, unchanged
        save_supernet(run.folder, supernet, c.dataset, s.provenance.to_json())
    return supernet


def given_supernet(s: Setting) -> Supernet:
    """The supernet of ``--supernet``. Raises UserError where it is of another form."""
    return load_supernet(Path(s.settings.supernet), s.macro, s.classes, s.settings.switchable_bn)


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
    noise_shape = (c.targets_per_step, len(s.macro.layers), 6, 4)
    for epoch in range(first, c.generator_epochs):
        tau = temperature(epoch, c.tau, c.tau_decay)
        batches = enumerate(s.search.epoch(epoch, begin), begin)
        for step, (x, y) in run.progress(batches, f"generator epoch {epoch}", initial=begin):
            number = epoch * len(s.search) + step
            targets = targets_of_step(c.low, c.high, c.target_step, c.target_noise, c.targets_per_step, s.seed, number)
            noise = gumbel_noise(noise_shape, seeds.generator(s.seed, "gumbel", number))
            adam.zero_grad()
            both = torch.zeros(2, device=s.device)
            if len(y):
                with autocast(s.device, s.precision):
                    constants = (c.alpha, c.loss_penalty, c.label_smoothing, c.active)
                    losses = generator_loss(frozen, generator, lookup, pool, x, y, targets, tau, noise, *constants)
                losses.total.backward()
                both = torch.stack([losses.cross_entropy, losses.hardware]).detach()
            distributed.all_reduce_mean([both], weight=len(y))
            check_finite(both.sum(), step=step, architecture=targets)
            distributed.reduce_gradients(generator.parameters(), len(y))
            adam.step()
            sums += both
            if run.due():
                run.save(_generator_state(epoch, step + 1, sums, generator, adam, best))
        middle = (c.low + c.high) / 2
        ops = trained_code(generate_ops(generator, pool, [middle], s.device)[0].tolist(), c.active)
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
        means = (sums / len(s.search)).tolist()
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
    return _search(settings, options, ("generator",))


def _search(settings: SearchSettings, options: Any, phases: tuple[str, ...]) -> dict[str, Any]:
    check_settings(settings, phases, options.given)
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
            own = run.folder / "supernet.safetensors"
            supernet = load_supernet(own, s.macro, s.classes) if "supernet" in phases else given_supernet(s)
            supernet.to(s.device)
        if pool is None:
            return run.finish({"metrics": {"supernet_parameters": sum(p.numel() for p in supernet.parameters())}})
        generator = train_generator(s, run, state if in_generator else {}, supernet, pool, lookup)
        return run.finish(conclude(s, run, generator, pool, lookup))


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
        origin = {"paper": "sgnas", "stage": "search", "seed": s.seed, "dataset": c.dataset, "classes": s.classes}
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
