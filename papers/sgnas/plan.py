"""``--plan``: what a long verb would do, roughly how long it takes on one CPU core, and its memory. Runs nothing.

Times are multiply-adds (see ``lookup``) times the seconds that 10^9 of them took on one core of the machine the
README's speed table is from; another machine, threads and input size make a factor of two. GPUs were not timed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from common.data.parts import take
from common.data.pictures.folders import list_pictures
from common.errors import UserError
from common.run import distributed
from common.weights.read import read_checkpoint
from papers.sgnas import claims
from papers.sgnas.data import sets as datasets
from papers.sgnas.data.convert import source_and_target
from papers.sgnas.data.search_data import refuse_small
from papers.sgnas.data.split import Split, provenance_of
from papers.sgnas.describe import counts
from papers.sgnas.evaluate import subject
from papers.sgnas.method.generator_training import target_pool, temperature
from papers.sgnas.method.lookup import cost_range, macs_table, one_hot
from papers.sgnas.method.trained_generator import load_generator
from papers.sgnas.networks.architectures import Macro, macro_for
from papers.sgnas.networks.supernet import load_supernet
from papers.sgnas.settings import Convert, Evaluate, SearchGenerator, Searching, SearchSupernet, Train
from papers.sgnas.studies.settings import Cost, Evolve, Latency, Sweep
from papers.sgnas.train import rate, training_batches

# Seconds per 10^9 multiply-adds of one image: forward and backward of a path (or a derived network), forward and
# backward of the soft supernet, forward with folded normalisation.
STEP, SOFT, FORWARD = 0.22, 0.20, 0.05
BASE_MEMORY = 0.35  # GB of an idle process with torch
MEMORY = 0.25  # GB that one image's activations take per 10^9 multiply-adds of a training step


def _time(seconds: float, memory: float) -> str:
    text = f"{seconds / 3600:.2g} h" if seconds > 5400 else f"{seconds / 60:.2g} min" if seconds > 90 else "1-2 min"
    return f"about {text} on one CPU core, {memory:.1f} GB of memory (rough: a factor of two)"


def _typical(macro: Macro) -> float:
    """10^9 multiply-adds of a typical path: four of six sub-blocks, one third of each kernel size."""
    p = torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0]] * 4 + [[0, 0, 0, 1.0]] * 2).expand(len(macro.layers), 6, 4)
    return float(macs_table(macro).cost(p)) / 1e3


def _all(macro: Macro) -> float:
    """10^9 multiply-adds of the soft supernet, where all operations run."""
    table, layers = macs_table(macro), len(macro.layers)
    dearest = float(table.cost(one_hot(torch.full((layers, 6), 2))))
    return (dearest + 6 * float(table.depthwise[:, :2].sum())) / 1e3


def _memory(images: int, gmacs: float) -> float:
    """GB for so many images at once, each of so many 10^9 multiply-adds."""
    return BASE_MEMORY + images * gmacs * MEMORY


def plan_search(settings: Searching, options: Any) -> list[str]:
    """Both phases, or the one whose settings are given."""
    c = settings
    images, note = datasets.open_or_count(c.dataset, "train", options)
    macro, classes = datasets.macro_of(c.dataset, images, c.macro), len(images.classes)
    split = provenance_of(Path(c.supernet)).split if c.supernet else None
    if split is None:
        refuse_small(c, images, c.parts if isinstance(c, SearchSupernet) else 0)
    split = split or Split(c.train_portion, c.train_images, c.search_images)
    train, held = map(len, split.parts(images, c.search_images))
    lines = [
        *([note] if note else []),
        f"{c.dataset}: {train:,} images for the supernet, {held:,} for the generator, {classes} classes",
        *_space(c, macro),
    ]
    path, soft = _typical(macro), _all(macro)
    seconds, peak, world = 0.0, 0.0, distributed.world_size()
    shares = world
    if isinstance(c, SearchSupernet):
        shares, peak = max(world, c.parts), path
        lines += _supernet_phase(c, macro, classes, train)
        seconds += c.supernet_epochs * (train * c.paths * path * STEP + held * path * FORWARD)
    if isinstance(c, SearchGenerator):
        peak = max(peak, 2 * soft)
        lines += _generator_phase(c, held)
        seconds += c.generator_epochs * held * (c.targets_per_step * soft * SOFT + path * FORWARD)
    return [*lines, _time(seconds / world, _memory(-(-c.batch_size // shares), peak))]


plan_search_supernet = plan_search_generator = plan_search


def _space(c: Searching, macro: Macro) -> list[str]:
    cheapest, dearest = cost_range(macs_table(macro))
    targets = ""
    if isinstance(c, SearchGenerator):
        unit = "ms" if c.latency_table else "MFLOPs"
        targets = f"; targets {c.low_mflops:g} to {c.high_mflops:g} {unit}"
    return [
        f"{macro.name} structure at {macro.input_size} pixels: {len(macro.layers)} layers, {cheapest:.1f} to "
        f"{dearest:.1f} MFLOPs{targets}",
        f"{claims.space_size('codes'):,} codes of a layer, {claims.space_size('layer')} networks up to channel order; "
        f"with {len(claims.MACROS['imagenet'].layers)} layers {claims.space_size('networks')}",
    ]


def _supernet_phase(c: SearchSupernet, macro: Macro, classes: int, images: int) -> list[str]:
    size = [claims.supernet_size(macro.name, classes, what) for what in ("parameters", "entries")]
    shares = c.parts or distributed.world_size()
    return [
        f"supernet as the authors store it: {size[0]:,} parameters, {size[1]:,} entries",
        f"phase 1: {c.supernet_epochs} x {-(-images // c.batch_size)} steps of {c.batch_size} images, {c.paths} paths "
        f"each, normalised in {shares} share(s) of {-(-c.batch_size // shares)}; the authors' epochs are unknown",
    ]


def _generator_phase(c: SearchGenerator, images: int) -> list[str]:
    targets = len(target_pool(c.low_mflops, c.high_mflops, c.target_step))
    tau = [temperature(epoch, c.tau, c.tau_decay) for epoch in (0, c.generator_epochs - 1)]
    return [
        f"phase 2: {c.generator_epochs} x {-(-images // c.batch_size)} steps of {c.batch_size} images, "
        f"{c.targets_per_step} target(s) each, of {targets} in turn; temperature {tau[0]:g} to {tau[1]:.3g}; then "
        f"{len(c.targets)} architectures",
        f"generator: {claims.generator_parameters():,} parameters as published, whose 32 epochs were "
        f"{claims.generator_steps(32):,} steps, the last at temperature {temperature(31):.2f}",
    ]


def plan_train(settings: Train, options: Any) -> list[str]:
    """Training from scratch with a test after every epoch."""
    c = settings
    images: Any
    images, note = datasets.open_or_count(c.dataset, "train", options)
    test, _ = datasets.open_or_count(c.dataset, "test", options)
    images = take(images, c.train_images, "--train-images")
    kernels, macro = datasets.network_of(c.arch, c.dataset, images, c.macro)
    found = counts(kernels, macro, len(images.classes), c.se)
    steps, shares = len(training_batches(c, images, 0, torch.device("cpu"))), c.parts or distributed.world_size()
    gmacs = found["macs"] / 1e9
    seconds = c.epochs * gmacs * (len(images) * STEP + len(test) * FORWARD)
    rates = [rate(c, epoch, 0, steps) for epoch in (0, c.epochs - 1, c.epochs)]
    return [
        *([note] if note else []),
        f"{c.arch}: {found['parameters']:,} parameters, {found['macs'] / 1e6:.1f} M multiply-adds",
        f"{c.dataset}: {c.epochs} x {steps:,} = {c.epochs * steps:,} steps of {c.batch_size} images, normalised in "
        f"{shares} share(s) of {-(-c.batch_size // shares)}; {len(test):,} test images after every epoch",
        f"{c.optimizer}, {c.schedule} schedule: rate {rates[0]:.6g} in the first epoch, {rates[1]:.6g} in the last, "
        f"{rates[2]:.6g} after it",
        _time(seconds / distributed.world_size(), _memory(-(-c.batch_size // shares), gmacs)),
    ]


def plan_evaluate(settings: Evaluate, options: Any) -> list[str]:
    """One pass over the test set."""
    c = settings
    if c.checkpoint and Path(c.checkpoint).is_file():
        asked = subject(c, read_checkpoint(Path(c.checkpoint), c.weights), options)
        kernels, macro, dataset, test, note = asked.kernels, asked.macro, asked.dataset, asked.test, ""
    elif c.arch:
        dataset, (test, note) = c.dataset, datasets.open_or_count(c.dataset, "test", options)
        kernels, macro = datasets.network_of(c.arch, c.dataset, test, c.macro)
    else:
        raise UserError("name what is to be evaluated: --checkpoint FILE, or --arch for a plan without the file")
    gmacs = counts(kernels, macro, len(test.classes), c.se)["macs"] / 1e9
    return [
        *([note] if note else []),
        f"{c.arch or c.checkpoint} on {len(test):,} test images of {dataset}, {macro.input_size} pixels, batches of "
        f"{c.batch_size}",
        _time(len(test) * gmacs * FORWARD, _memory(c.batch_size, gmacs / 4)),
    ]


def plan_evolve(settings: Evolve, options: Any) -> list[str]:
    """One search per constraint; what is scored twice counts once, so this is the most it takes."""
    c = settings
    if not c.supernet:
        raise UserError("evolve needs a trained supernet: --supernet FOLDER/supernet.safetensors")
    macro = load_supernet(Path(c.supernet)).macro
    scored = c.population * (1 + c.generations)
    gmacs = _typical(macro)
    return [
        f"{'random' if c.random else 'evolutionary'} search for each of {len(c.targets)} targets: up to {scored} "
        f"architectures, {c.search_images:,} images each",
        _time(len(c.targets) * scored * c.search_images * gmacs * FORWARD, _memory(c.batch_size, gmacs / 4)),
    ]


def plan_sweep(settings: Sweep, options: Any) -> list[str]:
    """One pass of the generator; a supernet makes it longer."""
    c = settings
    trained = load_generator(c.generator, c.prior_pool, options)
    count = int((trained.pool.high - trained.pool.low) / c.step_mflops + 1)
    lines = [f"about {count} targets in one pass of the generator"]
    if c.supernet:
        gmacs = _typical(trained.macro)
        scoring, renewing = c.search_images * FORWARD, c.recalibrate_batches * c.batch_size * STEP / 3
        seconds = count * gmacs * (scoring + renewing)
        lines.append(f"each scored on {c.search_images:,} images of {c.dataset}")
        return [*lines, _time(seconds, _memory(c.batch_size, gmacs / 4))]
    return [*lines, "seconds"]


def plan_cost(settings: Cost, options: Any) -> list[str]:
    """A few steps of both methods are timed."""
    macro, c = macro_for(settings.macro), settings
    seconds = 10 + c.batch_size * ((c.repeats + 1) * _all(macro) * SOFT + 4 * _typical(macro) * FORWARD)
    return [
        f"times {c.repeats} generator steps and 3 candidate batches of {c.batch_size} images, {macro.name} structure; "
        f"extrapolates to {c.generator_steps:,} steps, and {c.candidates:,} candidates for each of {c.counts}",
        _time(seconds, _memory(c.batch_size, 2 * _all(macro))),
    ]


def plan_latency(settings: Latency, options: Any) -> list[str]:
    """Every operation of the table, a few times."""
    macro, c = macro_for(settings.macro), settings
    runs = (len(macro.layers) * 5 + 3) * (c.repeats + 2)
    seconds = (c.repeats + 2) * c.batch_size * _all(macro) * FORWARD
    return [
        f"{len(macro.layers) * 5 + 3} modules of the {macro.name} structure, {runs} forward passes of {c.batch_size}",
        _time(seconds, _memory(c.batch_size, _all(macro) / 19)),
    ]


def plan_convert_lmdb(settings: Convert, options: Any) -> list[str]:
    """Pictures and bytes to copy."""
    source, target = source_and_target(settings)
    lines = []
    for split, part in (("train", "train"), ("test", "val")):
        pictures = list_pictures(source, split)
        size = sum((Path(pictures.root) / name).stat().st_size for name, _ in pictures.samples)
        lines.append(f"{target / part}.lmdb: {len(pictures.samples):,} pictures, {size / 1e9:.3f} GB")
    return [*lines, "as long as copying them and reading the copy takes"]
