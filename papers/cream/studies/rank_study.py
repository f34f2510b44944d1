"""Rank correlation: do the supernet's shared weights rank paths as training alone does?

draw random paths of the supernet
shared:  error of each with the supernet's weights, statistics re-calibrated
alone:   error of each trained from scratch on the same images
report how far the two orders agree, and how far the mere cost does

The protocol was published in words only (30 paths, 100 classes x 350 pictures: ``search --subset-classes 100``). Both
sides are measured on the images the search held out, or else on the test set.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from common.errors import UserError
from common.run import distributed, seeds
from common.run.device import pick_device
from common.run.folder import open_run, say
from common.train.metrics import kendall_tau
from papers.cream.data import batches as data
from papers.cream.data import sets
from papers.cream.method.schedules import training_lr, untrained_share
from papers.cream.method.scoring import path_error, recalibrated
from papers.cream.method.space import REDRAWS, Space, sample_path
from papers.cream.networks.architectures import ChoicePath
from papers.cream.select import finished_search
from papers.cream.studies.settings import RankStudy
from papers.cream.train import Training, fit, testing_batches, training_batches

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

DRAWS, LEVEL = 1000, 0.95  # of the bootstrap over pairs
NOTE = "null: one of the two sides is constant, so no order agrees or disagrees with it"


def rank_study(settings: RankStudy, options: RunOptions) -> dict[str, Any]:
    """Score, train, correlate. Writes rank.csv and result.json. Raises UserError."""
    searched = finished_search(settings.search)
    space = searched.space
    paths = random_paths(settings, space, options.seed)
    device = pick_device(options)
    distributed.setup()
    images, held_out, test = sets.search_parts(searched.settings, space.resolution, options, "test")
    judge, classes = test if held_out is None else held_out, len(images.classes)
    data.refuse_interpolation(settings, judge, options.given)
    if not searched.weights.is_file():
        raise UserError(f"{searched.weights} is missing; run the search again (dvc keeps it out of git)")
    batches = training_batches(images, settings, space.resolution, options.seed, device)
    judged = testing_batches(judge, settings, space.resolution, device)
    rate, epochs = training_lr(settings, "path")
    if line := untrained_share(settings, epochs * len(batches)):
        say(line)
    identity = {"search_fingerprint": searched.result["fingerprint"],
                "supernet": hashlib.sha256(searched.weights.read_bytes()).hexdigest()}  # fmt: skip
    with open_run(options, settings, data=[images, judge], **identity) as run:
        if run.result is not None:
            return run.result
        shared: list[float] = []  # top-1 accuracies in percent
        alone: list[float] = []
        run.keeps(shared=shared, alone=alone)
        supernet = searched.supernet(classes, device)
        calibration = data.calibration_batches(
            images, settings.recalibrate_batches, searched.share, space.resolution, device, settings.workers
        )
        for _, path in run.each(paths, "shared"):
            with recalibrated(supernet, path, calibration):
                shared.append(accuracy(path_error(supernet, path, judged).top1_error))

        for number, path in run.each(paths, "alone"):
            spec = space.derived(path, classes)
            network = Training(spec, settings, options.seed, device)
            run.keeps(network=network)
            for epoch, trained in fit(run, network, batches, settings, rate, epochs):
                run.log(path=number, epoch=epoch, lr=rate(epoch), train_loss=trained.loss)
            alone.append(accuracy(network.errors(judged, options.precision)["top1_error_percent"]))
            row = {"mflops_search_table": space.mflops(path), "parameters": spec.count("parameters")}
            run.log(file="rank", path=json.dumps(path), **row, score=shared[number], accuracy=alone[number])
            say(f"path {number + 1} of {len(paths)}: {shared[number]:.2f} % shared, {alone[number]:.2f} % alone")

        costs = [space.mflops(path) for path in paths]
        measured = {**agreement("shared", shared, alone), **agreement("macs", costs, alone)}
        return run.finish(
            {"paper": "cream", "stage": "rank_study", "metrics": {"paths": len(paths), **measured},
             "judged_on": judge.name, **({"note": NOTE} if None in measured.values() else {})}
        )  # fmt: skip


def accuracy(error: float) -> float:
    """Top-1 accuracy of an error, both in percent."""
    return round(100 - error, 4)


def random_paths(settings: RankStudy, space: Space, seed: int) -> list[ChoicePath]:
    """Different paths, uniform among the supernet's (inside the window, where one is given). Raises UserError."""
    rng = seeds.numpy_rng(seed, "rank study")
    paths: list[ChoicePath] = []
    for _ in range(REDRAWS):
        path = sample_path(rng, space.window.sampled, space.layout.choices)
        inside = settings.macs_min <= space.mflops(path) <= (settings.macs_max or float("inf"))
        if inside and path not in paths:
            paths.append(path)
        if len(paths) == settings.paths:
            return paths
    raise UserError(
        f"{len(paths)} different paths in {REDRAWS} draws, --paths asks for {settings.paths}; lower it, or widen "
        f"--macs-min and --macs-max"
    )


def agreement(name: str, scores: Sequence[float], accuracies: Sequence[float]) -> dict[str, float | None]:
    """How far two lists agree: ``<name>_kendall_tau`` (tau-b) with the ends of its bootstrap interval,
    ``<name>_spearman``, ``<name>_pearson``.

    None where a list is constant, or (the interval) in every draw of the bootstrap.
    """
    from scipy import stats

    x, y = np.asarray(scores, dtype=np.float64), np.asarray(accuracies, dtype=np.float64)
    names = ("kendall_tau", "kendall_tau_low", "kendall_tau_high", "spearman", "pearson")
    values: tuple[float, ...] = (math.nan,) * len(names)
    if not constant(x, y):
        rng = np.random.default_rng(0)
        drawn = [rng.integers(0, len(x), len(x)) for _ in range(DRAWS)]
        known = [kendall_tau(x[i].tolist(), y[i].tolist()) for i in drawn if not constant(x[i], y[i])]
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if known else (math.nan, math.nan)
        tau = kendall_tau(x.tolist(), y.tolist())
        values = (tau, low, high, stats.spearmanr(x, y).statistic, stats.pearsonr(x, y).statistic)
    return {f"{name}_{n}": None if math.isnan(v) else float(v) for n, v in zip(names, values, strict=True)}


def constant(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether one of two lists holds one value only, so that it orders nothing."""
    return len(set(x.tolist())) < 2 or len(set(y.tolist())) < 2
