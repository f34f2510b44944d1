"""The search: train the unified supernet, then train the generator against the fixed supernet.

Each phase goes on at any batch after a kill, and runs alone from the other's output.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from common.errors import UserError
from common.run import distributed, seeds
from common.run.device import autocast, onto
from common.run.files import write_json
from common.run.folder import Run, open_run, say
from common.run.keep import Values
from common.train.compiling import compile_operations
from common.train.losses import check_finite, with_gradients
from common.train.schedules import cosine
from papers.sgnas.data.search_data import SearchData, open_search_data
from papers.sgnas.generate import as_text, rows_of, write_architectures
from papers.sgnas.method.generator import Generator, gumbel_noise, gumbel_softmax
from papers.sgnas.method.generator_training import (
    Best,
    accuracy_loss,
    build_optimizer,
    fit_to_targets,
    generate_ops,
    target_pool,
    targets_of_step,
    temperature,
)
from papers.sgnas.method.lookup import Lookup, hardware_loss, macs_table, read_latency_table
from papers.sgnas.method.prior import PriorPool, prior_pool
from papers.sgnas.method.sampling import sample_paths
from papers.sgnas.method.scoring import Scorer, score
from papers.sgnas.method.supernet_training import PathSGD, supernet_gradients
from papers.sgnas.method.trained_generator import TrainedGenerator
from papers.sgnas.networks.architectures import OPS, SUB_BLOCKS
from papers.sgnas.networks.derived import Block
from papers.sgnas.networks.fixed_supernet import FixedSupernet
from papers.sgnas.networks.layers import ConvBN
from papers.sgnas.networks.supernet import Supernet, load_supernet, save_supernet
from papers.sgnas.settings import Search, SearchGenerator, Searching, SearchSupernet

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

COLUMNS = (
    "phase", "epoch", "loss", "hardware_loss", "valid_loss", "valid_top1_error_percent",
    "total_hardware_loss", "kendall_tau", "tau",
)  # fmt: skip


def search(settings: Search, options: RunOptions) -> dict[str, Any]:
    """The ``search`` verb: phase 1, phase 2, then an architecture for every target."""
    data = open_search_data(settings, options, settings.parts)
    with open_run(options, settings, data=data.images, phases=["supernet", "generator"]) as run:
        if run.result is not None:
            return run.result
        lookup, pool = targets_of_search(settings, data, run)  # what can be wrong is found before an epoch is trained
        supernet = train_supernet(settings, data, run)
        generator = train_generator(settings, data, run, supernet, lookup, pool)
        return run.finish(architectures_for_targets(settings, data, run, generator, lookup, pool))


def search_supernet(settings: SearchSupernet, options: RunOptions) -> dict[str, Any]:
    """The ``search-supernet`` verb: phase 1 alone."""
    data = open_search_data(settings, options, settings.parts)
    with open_run(options, settings, data=data.images, phases=["supernet"]) as run:
        if run.result is not None:
            return run.result
        supernet = train_supernet(settings, data, run)
        return run.finish({"metrics": {"supernet_parameters": sum(p.numel() for p in supernet.parameters())}})


def search_generator(settings: SearchGenerator, options: RunOptions) -> dict[str, Any]:
    """The ``search-generator`` verb: phase 2 alone, on the supernet of ``--supernet``. Raises UserError without one."""
    if not settings.supernet:
        raise UserError("a generator-only search needs a trained supernet: --supernet FOLDER/supernet.safetensors")
    data = open_search_data(settings, options)
    with open_run(options, settings, data=data.images, phases=["generator"]) as run:
        if run.result is not None:
            return run.result
        lookup, pool = targets_of_search(settings, data, run)
        generator = train_generator(settings, data, run, given_supernet(settings, data), lookup, pool)
        return run.finish(architectures_for_targets(settings, data, run, generator, lookup, pool))


def train_supernet(c: SearchSupernet, data: SearchData, run: Run) -> Supernet:
    """Phase 1 (Method 4). The weights of the last epoch count, not the best.

    for every batch x, y of the supernet's images:
        draw 4 paths, whose expansion rates differ in every layer
        g = sum over the paths of the gradient of CE(supernet(x; path), y)
        one step of SGD with momentum and decay down g, at a rate on a cosine
    after an epoch: the error of random paths on the generator's images
    """
    seed, layers, steps = run.options.seed, len(data.macro.layers), len(data.train)
    supernet = first_supernet(c, data, seed)
    compile_operations(supernet, run.options, Block, ConvBN)
    sgd = PathSGD(supernet, c.momentum, c.weight_decay, c.zero_grad)
    sums = Values(loss=torch.zeros((), device=data.device))
    run.keeps(supernet=supernet)  # to the end of the second phase
    run.keeps(sgd=sgd, supernet_sums=sums)
    for epoch in run.epochs(c.supernet_epochs, name="supernet"):
        supernet.train()
        for step, (x, y) in run.steps(data.train, epoch):
            paths = sample_paths(seeds.numpy_rng(seed, "paths", epoch, step), layers, c.paths, c.active)
            sizes = [len(part) for part in y.tensor_split(len(data.train.share_sizes(step)))]
            with autocast(data.device, run.options.precision):
                losses = supernet_gradients(supernet, x, y, paths, c.label_smoothing, sizes)
            loss = with_gradients(torch.stack(losses).mean(), supernet.parameters())
            distributed.all_reduce_mean([loss], weight=len(y))
            check_finite(loss, step=step, architecture=paths)
            distributed.reduce_gradients(supernet.parameters(), len(y))
            sgd.step(cosine(c.lr, 0.0, epoch * steps + step, c.cosine_epochs * steps), paths)
            sums.loss = sums.loss.to(loss) + loss
        rng = seeds.numpy_rng(seed, "validation paths", epoch)
        paths = sample_paths(rng, layers, len(data.validation), c.active)
        valid_loss, error = score(FixedSupernet(supernet), paths, data.validation, epoch)
        log(run, phase="supernet", epoch=epoch, loss=float(sums.loss) / steps, valid_loss=valid_loss,
            valid_top1_error_percent=error)  # fmt: skip
        sums.loss.zero_()
        write_supernet(run, supernet, data)
    run.drops("sgd", "supernet_sums")
    if not c.supernet_epochs:  # the given one, unchanged
        write_supernet(run, supernet, data)
    return supernet


def train_generator(
    c: SearchGenerator, data: SearchData, run: Run, supernet: Supernet, lookup: Lookup, pool: PriorPool
) -> Generator:
    """Phase 2 (Methods 5 to 7). Returns the "best average" generator, else that of the lowest total hardware loss.

    for every batch x, y of the generator's images:
        t = the next of the targets, plus noise
        p = Gumbel-softmax of generator(t, prior) at temperature tau
        L = CE(supernet(x; p), y) + hardware loss of F(p) against t
        one step of Adam for the generator
    after an epoch: the error of the arg-max network in the middle of the range, the hardware loss over all of it
    """
    seed, device, steps = run.options.seed, data.device, len(data.search)
    weights = seeds.generator(seed, "generator weights")
    generator = Generator(c.constraint_channels, c.width, c.generator_layers, weights).to(device)
    adam = build_optimizer(generator, c.generator_lr)
    sums, best = Values(losses=torch.zeros(2, device=device)), Best()
    run.keeps(generator=generator, adam=adam, generator_sums=sums, best=best)
    scorer = Scorer(supernet.eval(), c.active, data.train, c.recalibrate_batches)
    all_targets = target_pool(c.low_mflops, c.high_mflops, c.target_step)
    shape, margin = (c.targets_per_step, len(data.macro.layers), SUB_BLOCKS, OPS), pool.margin(lookup)
    for epoch in run.epochs(c.generator_epochs, name="generator"):
        tau = temperature(epoch, c.tau, c.tau_decay)
        for step, (x, y) in run.steps(data.search, epoch):
            number = epoch * steps + step
            targets = targets_of_step(all_targets, c.target_noise, c.targets_per_step, seed, number)
            noise = onto(device, gumbel_noise(shape, seeds.generator(seed, "gumbel", number)))
            adam.zero_grad()
            losses = torch.zeros(2, device=device)
            if len(y):  # a process may have no image of the last batch
                with autocast(device, run.options.precision):
                    p = gumbel_softmax(generator(*pool.inputs(targets, device)), tau, noise)
                    t = onto(device, torch.tensor(targets))
                    hardware = hardware_loss(lookup.cost(p), t, c.alpha, c.loss_penalty, margin).mean()
                    cross_entropy = accuracy_loss(scorer.fixed, x, y, p, c.label_smoothing, c.active)
                (cross_entropy + hardware).backward()
                losses = torch.stack([cross_entropy, hardware]).detach()
                losses = with_gradients(losses, generator.parameters())
            distributed.all_reduce_mean([losses], weight=len(y))
            check_finite(losses.sum(), step=step, architecture=targets)
            distributed.reduce_gradients(generator.parameters(), len(y))
            adam.step()
            sums.losses = sums.losses.to(losses) + losses
        middle = generate_ops(generator, pool, [(c.low_mflops + c.high_mflops) / 2], device)[0].tolist()
        valid_loss, error = scorer(middle, data.validation, epoch)
        fit = fit_to_targets(generator, lookup, pool, c.validation_step, c.alpha, c.loss_penalty)
        if best.look(generator, epoch, fit, error, c.accept_loss) and run.writes:
            write_json(run.folder / "best_fit.json", fit.to_json())
        loss, hardware_mean = (sums.losses / steps).tolist()
        log(
            run, phase="generator", epoch=epoch, loss=loss, hardware_loss=hardware_mean, valid_loss=valid_loss,
            valid_top1_error_percent=error, total_hardware_loss=fit.total, kendall_tau=fit.kendall, tau=tau,
        )  # fmt: skip
        sums.losses.zero_()
    return best.chosen(generator, c.accept_loss)


# -- before and after -------------------------------------------------------------------------------------------------


def targets_of_search(c: SearchGenerator, data: SearchData, run: Run) -> tuple[Lookup, PriorPool]:
    """The look-up table that costs are taken from, and the priors. Raises UserError where targets do not fit them."""
    lookup = read_latency_table(Path(c.latency_table), data.macro) if c.latency_table else macs_table(data.macro)
    lookup = lookup.to(data.device)
    return lookup, prior_pool(run.folder, c, lookup)


def first_supernet(c: SearchSupernet, data: SearchData, seed: int) -> Supernet:
    """Fresh weights, or those of ``--supernet``."""
    weights = seeds.generator(seed, "supernet weights")
    supernet = Supernet(data.macro, data.classes, c.bn_momentum, weights, c.switchable_bn)
    if c.supernet:
        supernet.load_state_dict(given_supernet(c, data).state_dict())
    return supernet.to(data.device)


def given_supernet(c: Searching, data: SearchData) -> Supernet:
    """The supernet of ``--supernet``. Raises UserError where it is of another form."""
    return load_supernet(Path(c.supernet), data.macro, data.classes, c.switchable_bn).to(data.device)


def write_supernet(run: Run, supernet: Supernet, data: SearchData) -> None:
    """supernet.safetensors and its record."""
    if run.writes:
        save_supernet(run.folder, supernet, data.provenance.dataset, data.provenance.to_json())


def log(run: Run, **values: Any) -> None:
    """One row of history.csv; columns that do not apply to the phase stay empty."""
    row: dict[str, Any] = {column: values.get(column) for column in COLUMNS}
    run.log(**row)


def architectures_for_targets(
    c: SearchGenerator, data: SearchData, run: Run, generator: Generator, lookup: Lookup, pool: PriorPool
) -> dict[str, Any]:
    """Write the generator, and an architecture for every target (Method 8); the search's result."""
    trained = TrainedGenerator(generator.cpu().eval(), pool, data.macro, lookup.to("cpu"), "search")
    targets = sorted(float(target) for target in c.targets)
    found = [(target, kernels, cost) for target, (kernels, cost) in zip(targets, trained.kernels(targets))]
    if run.writes:
        trained.save(run.folder)
        origin = {"paper": "sgnas", "stage": "search", "seed": run.options.seed, "dataset": c.dataset}
        origin |= {"classes": data.classes}
        write_architectures(run.folder, data.macro, lookup.unit, found, origin)
    rows = rows_of(found, data.macro, data.classes, se=False)
    say(as_text(rows, lookup.unit))
    fit = fit_to_targets(trained.network, trained.lookup, pool, c.validation_step, c.alpha, c.loss_penalty)
    middle = rows[len(rows) // 2]
    metrics = {
        "total_hardware_loss": fit.total,
        "kendall_tau": fit.kendall,
        "parameters": middle["parameters"],
        "macs": middle["macs"],
        "largest_miss": max(abs(row["lookup_cost"] - row["target"]) for row in rows),
    }
    architecture = {"kernels": middle["kernels"], "macro": data.macro.name}
    return {"metrics": metrics, "architecture": architecture, "architectures": rows}
