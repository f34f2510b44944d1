"""``--plan``: the steps of a long verb, roughly how long they take on one CPU core, and the memory. Runs nothing.

Data are opened as the run opens them, so the counts are the run's and its mistakes are found. Times were measured on
one core: seconds per image fall with the width C as multiply-adds / C (depthwise and small convolutions are bound by
memory); another machine, threads and load make a factor of two. GPU times were not measured.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from common.data.text import Corpus, batchify
from common.run import seeds
from common.spaces.counting import macs
from common.spaces.darts.data import PICTURE_PIXELS, open_test
from common.spaces.darts.genotype import Genotype
from common.spaces.darts.network import derived
from common.spaces.darts.plan import FORWARD, FORWARD_MEMORY, MEMORY, STEP, estimate, plan_testing, plan_training
from common.spaces.darts.weights import check_classes
from papers.nsas import search_gdas, search_random
from papers.nsas.data import constants
from papers.nsas.method.sampling import genotype_of
from papers.nsas.nasbench201 import search_gdas as search_nb201_gdas
from papers.nsas.nasbench201 import search_random as search_nb201_random
from papers.nsas.nasbench201.settings import SearchNb201Gdas, SearchNb201Random
from papers.nsas.nasbench201.supernet import build_nb201
from papers.nsas.networks.architectures import load_genotype, size_of
from papers.nsas.networks.supernet import build_supernet
from papers.nsas.networks.weights import read_cnn
from papers.nsas.recurrent.architecture import load_cell
from papers.nsas.recurrent.chunks import epoch_chunks
from papers.nsas.recurrent.evaluate import read_recurrent
from papers.nsas.recurrent.settings import EvaluateRecurrent, SearchRecurrent, TrainRecurrent
from papers.nsas.recurrent.train import build
from papers.nsas.settings import Evaluate, SearchGdas, SearchRandom, Train
from papers.nsas.studies import forgetting
from papers.nsas.studies.settings import Experiment
from papers.nsas.studies.summary import collect
from papers.nsas.train import form_of, network_of, open_data

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

# Seconds of an image and GB of its activations, times C / 10^9 multiply-adds, as in common.spaces.darts.plan.
STEP_201, FORWARD_201, MEMORY_201 = 1.4, 0.6, 1.0
# Recurrent networks: seconds per 10^9 multiply-adds, and of the small calls of a time step (one cell; the mixture).
STEP_WORD, FORWARD_WORD = 0.09, 0.032
CALLS, CALLS_MIXTURE, FORWARD_CALLS = 1.1e-3, 2.5e-3, 0.3
MEMORY_WORD, MEMORY_MIXTURE = 3.5e-7, 1.3e-6  # GB of a word and unit
CPU = torch.device("cpu")
TYPICAL = genotype_of((tuple((operation, operation % 2) for operation in range(8)),) * 2)  # every operation once
TYPICAL_201 = "012343"
EXACT_EPOCHS = 100  # the random chunks of so many epochs are counted, those of longer runs scaled from the first


def plan_random(settings: SearchRandom, options: RunOptions) -> list[str]:
    """RandomNAS-NSAS in the DARTS space."""
    c = settings
    train, valid = search_random.open_batches(c, options, CPU)
    dense, path = _darts(c, train)
    steps, images, held = c.epochs * len(train), c.epochs * len(train.images), len(valid.images)
    step, forward = (dense * STEP, dense * FORWARD) if c.table == "softmax" else (path * STEP, path * FORWARD)
    if c.table == "raw" and c.unsampled_statistics:
        step += dense * FORWARD
    scored = c.select_rounds * c.select_candidates
    seconds = images * (step + c.constraints * (step if c.constraint_gradient else forward))
    seconds += scored * forward * (held + c.recalibrate_batches * c.batch_size)
    seconds += 4 * c.epochs * held * forward if c.monitor else 0.0
    size = dense if c.table == "softmax" else path
    memory = size * max(c.batch_size * MEMORY, valid.batch_size * FORWARD_MEMORY)
    return [
        f"{train.images.name}: {len(train.images):,} images for the weights, {held:,} for the selection",
        f"training: {c.epochs} x {len(train)} = {steps:,} steps of {c.batch_size} images, up to {c.constraints} "
        f"constraints {'with' if c.constraint_gradient else 'without'} gradient, {c.table} table",
        f"selection: {c.select_rounds} x {c.select_candidates} = {scored:,} cells, {held:,} images each"
        + (f", {c.recalibrate_batches} batches to renew statistics" if c.recalibrate_batches else "")
        + (", and four cells after every epoch" if c.monitor else ""),
        estimate(seconds, memory),
    ]


def plan_gdas(settings: SearchGdas, options: RunOptions) -> list[str]:
    """GDAS-NSAS in the DARTS space."""
    c = settings
    train, valid = search_gdas.open_batches(c, options, CPU)
    dense, path = _darts(c, train)
    released = c.semantics == "2019"
    passes, constraints = (4, c.constraints) if released else (1, 0)
    step, forward = (dense * STEP, dense * FORWARD) if c.table == "softmax" else (path * STEP, path * FORWARD)
    seconds = passes * dense * STEP + step + constraints * (step if c.constraint_gradient else forward)
    seconds += dense * FORWARD if c.table == "raw" else 0.0  # statistics of operations that were not sampled
    return [
        f"{train.images.name}: {len(train.images):,} images for the weights, {len(valid.images):,} for the tables",
        f"training: {c.epochs} x {len(train)} = {c.epochs * len(train):,} steps of {c.batch_size} images, each "
        f"{'an unrolled' if released else 'a plain'} table step ({passes} passes of the mixture) and a weight step "
        f"with up to {constraints} constraints",
        f"after every epoch the cell of the tables is scored on {len(valid.images):,} images",
        estimate(c.epochs * (len(train.images) * seconds + len(valid.images) * forward), c.batch_size * dense * MEMORY),
    ]


def plan_201(settings: SearchNb201Random | SearchNb201Gdas, options: RunOptions) -> list[str]:
    """Both searches on NAS-Bench-201."""
    c, gdas = settings, isinstance(settings, SearchNb201Gdas)
    if isinstance(settings, SearchNb201Gdas):
        train, valid, note = search_nb201_gdas.open_batches(settings, options, CPU)
    else:
        train, valid, note = search_nb201_random.open_batches(settings, options, CPU)
    constraints = {"none": 0, "low": 1, "nsas": c.constraints}.get(c.constraint, 2)
    image, memory = _nb201(c.channels, c.cells, train)
    seconds = STEP_201 * (2 if gdas else 1) + constraints * (STEP_201 if c.constraint_gradient else FORWARD_201)
    seconds *= c.epochs * len(train.images)
    lines = [
        f"{train.images.name}: {len(train.images):,} images for the weights, {len(valid.images):,} "
        f"{'for the tables' if gdas else 'for the selection'} ({note})",
        f"training: {c.epochs} x {len(train)} = {c.epochs * len(train):,} steps of {c.batch_size} images, "
        f"{constraints} constraints {'with' if c.constraint_gradient else 'without'} gradient"
        + (", each with a table step" if gdas else ""),
    ]
    if isinstance(c, SearchNb201Random):
        lines.append(
            f"selection: {c.select_candidates} cells, and {c.epoch_candidates} after every epoch, "
            f"{len(valid.images):,} images each in batches of {valid.batch_size} ({c.selection})"
        )
        renewed = c.recalibrate_batches * c.batch_size
        cells = c.select_candidates + c.epochs * (c.epoch_candidates + bool(c.epoch_candidates))
        seconds += cells * (len(valid.images) + renewed) * FORWARD_201
    return [*lines, estimate(seconds * image, c.batch_size * memory)]


def plan_experiment(settings: Experiment, options: RunOptions) -> list[str]:
    """One run of the study, or the summary of those that are done."""
    c = settings
    if c.summarise:
        return [f"joins {len(collect(Path(c.summarise)))} finished runs below {c.summarise}; seconds"]
    train, valid, note = forgetting.open_batches(c, options, CPU)
    image, memory = _nb201(c.channels, c.cells, train)
    steps = c.epochs * len(train)
    seconds = float(c.epochs * len(train.images))
    terms = {"paper": [STEP_201], "authors": [FORWARD_201], "both": [STEP_201, FORWARD_201]}[c.loss]
    seconds *= len(terms) * STEP_201 + c.constraints * sum(terms)
    times = c.epochs // c.rank_every if c.rank_every else 0
    ranked = c.rank_cells * ((2 * times + 1) * len(valid.images) + (times + 1) * c.recalibrate_batches * c.batch_size)
    probed = steps // c.probe_every * 8 * min(c.probe_images, len(valid.images))
    return [
        f"{train.images.name}: {len(train.images):,} images for the weights, {len(valid.images):,} to rank ({note})",
        f"training: {c.epochs} x {len(train)} = {steps:,} steps of {c.batch_size} images, loss {c.loss}, up to "
        f"{c.constraints} constraints; {steps // c.probe_every} probes of forgetting"
        + ("; for each of the two losses" if len(terms) == 2 else ""),
        f"ranking: {c.rank_cells} cells, {len(valid.images):,} images each"
        + (f", and {times} times before" * (times > 0)),
        estimate((seconds + len(terms) * (ranked + probed) * FORWARD_201) * image, c.batch_size * memory),
    ]


def plan_train(settings: Train, options: RunOptions) -> list[str]:
    """A derived CNN."""
    c, form = settings, network_of(settings, options)
    data = open_data(c, form, options, CPU)
    network = _network(load_genotype(c.arch), form == "imagenet", len(data.classes), c.channels, c.layers)
    looked_at = data.judged[data.judge]  # after an epoch
    return [
        f"{form} network, {len(data.classes)} classes",
        *plan_training(c, network, data.pixels, data.train, looked_at),
    ]


def plan_evaluate(settings: Evaluate, options: RunOptions) -> list[str]:
    """One pass over the test set."""
    c = settings
    if c.checkpoint:
        c, found, genotype, form = read_cnn(settings, options)
        imagenet = form.imagenet
    else:  # of a published network
        name = c.arch or "Random_NSAS"
        imagenet = form_of("auto", c.dataset, options) == "imagenet"
        channels, layers = size_of("imagenet" if imagenet else c.dataset, name, c.channels, c.layers)
        c, genotype = replace(c, arch=name, channels=channels, layers=layers), load_genotype(name)
    test, _ = open_test(c.dataset, imagenet, c.batch_size, options, CPU, constants, c.workers)
    if c.checkpoint:
        check_classes(found, test.classes, c.dataset)
    network = _network(genotype, imagenet, len(test.classes), c.channels, c.layers)
    pixels, name = PICTURE_PIXELS if imagenet else test.size, c.arch or "the file's architecture"
    return [
        f"{'imagenet' if imagenet else 'cifar'} network, {c.dataset}",
        *plan_testing(name, network, c.channels, pixels, len(test), c.batch_size),
    ]


def plan_recurrent_search(settings: SearchRecurrent, options: RunOptions) -> list[str]:
    """RandomNAS-NSAS for recurrent cells."""
    c, corpus = settings, Corpus.open(settings.text, options, settings.max_tokens, settings.max_types)
    train, valid = batchify(corpus.train, c.batch_size), batchify(corpus.valid, c.eval_batch_size)
    rows, sampled = len(valid[: c.select_rows or None]), c.path == "sampled"
    chunks, about = _chunks(c, len(train), options.seed, fixed=True)
    columns = c.batch_size
    step, calls = _word(corpus.types, c.width, 8 if sampled else 36), CALLS if sampled else CALLS_MIXTURE
    passes = (1 + c.constraints) * c.epochs * len(train)
    seconds = passes * (columns * step * STEP_WORD + calls)
    scored = c.epochs + (c.select_candidates if sampled else 0)
    renewed = c.recalibrate_chunks * c.bptt if sampled else 0
    forward = (c.eval_batch_size * rows + columns * renewed) * step * FORWARD_WORD
    seconds += scored * (forward + (rows + renewed) * calls * FORWARD_CALLS)
    held = columns * c.bptt * c.width  # one pass at a time has a graph: the hidden state is detached between them
    lines = [
        f"{corpus.name}: {len(corpus.train):,} training words in {columns} columns, {corpus.types:,} types",
        f"training: {c.epochs} epochs, {about}{chunks:,} chunks of up to {c.bptt} in all, up to {c.constraints} "
        f"constraints; path {c.path}",
    ]
    if sampled:
        lines.append(f"selection: {c.select_candidates} cells, {rows:,} rows of {c.eval_batch_size} each")
    return [*lines, estimate(seconds, held * (MEMORY_WORD if sampled else MEMORY_MIXTURE))]


def plan_recurrent_train(settings: TrainRecurrent, options: RunOptions) -> list[str]:
    """A recurrent cell from scratch."""
    c, corpus = settings, Corpus.open(settings.text, options, settings.max_tokens, settings.max_types)
    cell = load_cell(c.arch)
    train, valid = batchify(corpus.train, c.batch_size), batchify(corpus.valid, c.eval_batch_size)
    with torch.device("meta"):
        weights = sum(p.numel() for p in build(corpus.types, cell, c).parameters())
    chunks, about = _chunks(c, len(train), options.seed)
    word = _word(corpus.types, c.width, 8)
    seconds = c.epochs * len(train) * (c.batch_size * word * STEP_WORD + CALLS)
    seconds += c.epochs * len(valid) * (c.eval_batch_size * word * FORWARD_WORD + CALLS * FORWARD_CALLS)
    seconds += len(corpus.test) * (word * FORWARD_WORD + CALLS * FORWARD_CALLS)
    return [
        f"{c.arch}: {weights:,} parameters",
        f"{corpus.name}: {len(corpus.train):,} training words in {c.batch_size} columns, {corpus.types:,} types",
        f"training: {c.epochs} epochs, {about}{chunks:,} chunks of about {c.bptt} in all; then {len(corpus.test):,} "
        "test words one by one",
        estimate(seconds, c.batch_size * c.bptt * c.width * MEMORY_WORD + weights * 2e-8),
    ]


def plan_recurrent_evaluate(settings: EvaluateRecurrent, options: RunOptions) -> list[str]:
    """Validation and test text once."""
    c = read_recurrent(settings, options).settings if settings.checkpoint else settings
    corpus = Corpus.open(c.text, options, c.max_tokens, c.max_types)
    width = c.width or 850
    words, calls = len(corpus.valid) + len(corpus.test), len(corpus.valid) // c.batch_size + len(corpus.test)
    seconds = words * _word(corpus.types, width, 8) * FORWARD_WORD + calls * CALLS * FORWARD_CALLS
    return [
        f"{c.arch or 'recurrent network'}, {width} units: {len(corpus.valid):,} validation words in "
        f"{c.batch_size} columns, {len(corpus.test):,} test words in one",
        estimate(seconds, corpus.types * width * 1e-8),
    ]


def _darts(c: Any, train: Any) -> tuple[float, float]:
    """10^9 multiply-adds / C of all operations, and of a path with every operation once a cell."""
    classes, size = len(train.images.classes), train.images.pixels.shape[-1]
    with torch.device("meta"):
        supernet = build_supernet(c.channels, classes, c.layers)
    dense = macs(supernet, (3, size, size), ([[1.0] * 8] * 14,) * 2)
    path = macs(_network(TYPICAL, False, classes, c.channels, c.layers), (3, size, size))
    return dense / 1e9 / c.channels, path / 1e9 / c.channels


def _network(genotype: Genotype, imagenet: bool, classes: int, channels: int, layers: int) -> torch.nn.Module:
    """The derived network on the meta device: only its shapes are counted."""
    with torch.device("meta"):
        return derived(genotype, imagenet, classes, channels, layers)


def _nb201(channels: int, cells: int, train: Any) -> tuple[float, float]:
    """10^9 multiply-adds / C of a cell with five operations, and GB of an image."""
    size = train.images.pixels.shape[-1]
    with torch.device("meta"):
        model = build_nb201(TYPICAL_201, channels, cells, len(train.images.classes))
    image = macs(model, (3, size, size)) / 1e9 / channels
    return image, image * MEMORY_201


def _word(types: int, width: int, products: int) -> float:
    """10^9 multiply-adds of a word: W0, the nodes' products, the decoder."""
    return (4 * width**2 + 2 * products * width**2 + types * width) / 1e9


def _chunks(c: Any, rows: int, seed: int, fixed: bool = False) -> tuple[int, str]:
    """Chunks of all epochs as the run draws them, or, for long runs, as many times those of the first."""
    exact = c.epochs if c.epochs <= EXACT_EPOCHS else 1
    counted = sum(len(epoch_chunks(rows, c.bptt, seeds.numpy_rng(seed, "chunks", e), fixed)) for e in range(exact))
    return counted * c.epochs // max(1, exact), "" if exact == c.epochs else "about "
