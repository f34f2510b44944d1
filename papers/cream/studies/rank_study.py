"""Rank correlation: do the supernet's shared weights rank paths as training alone does?

draw random paths of the supernet
shared:  error of each with the supernet's weights, statistics recalibrated
alone:   error of each trained from scratch on the same images
report how far the two orders agree, and how far the mere cost does

The protocol was published in words only (30 paths, 100 classes x 350 pictures: ``search --subset-classes 100``). Both
sides are measured on the images the search held out, or else on the test set.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path as Folder
from typing import Any

import torch

from common.cli.errors import UserError
from common.run import seeds
from common.run.folder import open_run, say
from common.train import distributed
from common.train.device import pick_device
from common.weights.read import load_strict, load_tensors
from papers.cream.data import batches as data
from papers.cream.method.sampling import sample_path
from papers.cream.method.scoring import path_error, recalibrated
from papers.cream.method.window import Window
from papers.cream.network.architectures import Named, Path
from papers.cream.network.layout import FlopsTable, Layout, network_spec, variant_of
from papers.cream.network.networks import Supernet
from papers.cream.schedules import learning_rate
from papers.cream.search import (
    REDRAWS,
    calibration_batches,
    resolution_of,
    scoring_batch,
    sources,
    space_of,
    table_of,
)
from papers.cream.select import finished_search
from papers.cream.settings import RankStudy, Recipe, Search, Train
from papers.cream.studies.correlation import agreement
from papers.cream.train import train_on


def rank_study(settings: RankStudy, options: Any) -> dict[str, Any]:
    """Score, train, correlate; resumable inside each training. Writes rank.csv and result.json. Raises UserError."""
    c = settings
    folder, found, searched = finished_search(c.search)
    window, layout, _ = space_of(searched)
    table = table_of(searched, window, layout)
    resolution = resolution_of(searched, window)
    paths = draw_paths(c, window, table, layout, options.seed)
    device = pick_device(options)
    distributed.setup()
    source, held_out, test = sources(searched, resolution, options, "test")
    judge = test if held_out is None else held_out
    data.refuse_interpolation(c, judge, options.given)
    weights = folder / "supernet.safetensors"
    if not weights.is_file():
        raise UserError(f"{weights} is missing; run the search again (dvc keeps it out of git)")

    identity = {**data.data_pins(source, judge), "search_fingerprint": found["fingerprint"],
                "supernet": hashlib.sha256(weights.read_bytes()).hexdigest()}  # fmt: skip
    with open_run(options, c, identity) as run:
        if run.result is not None:
            return run.result
        state = run.load() or {"shared": [], "alone": []}
        shared, alone = state["shared"], state["alone"]
        if not shared:
            net = Supernet(window.built, len(source.classes), searched.slice, layout)
            load_strict(net, load_tensors(weights))
            share = scoring_batch(searched, found["processes"])
            shared = shared_accuracies(net.to(device), paths, c, share, source, judge, resolution, device)
            run.save({"shared": shared, "alone": alone})
        for number, path in enumerate(paths):
            place = run.folder / f"path-{number:02d}"
            if number == len(alone):
                alone.append(accuracy_alone(path, place, c, searched, layout, source, judge, resolution, options))
                spec = network_spec(path, len(source.classes), layout, single_block_default=False)
                run.log(
                    file="rank", path=json.dumps(path), mflops_search_table=table.flops(path),
                    parameters=spec.count("parameters"), score=shared[number], accuracy=alone[number],
                )  # fmt: skip
                say(f"path {number + 1} of {len(paths)}: {shared[number]:.2f} % shared, {alone[number]:.2f} % alone")
                run.save({"shared": shared, "alone": alone})
            if distributed.rank() == 0:
                shutil.rmtree(place, ignore_errors=True)  # its numbers are in the state
        measured = {
            **agreement("shared", shared, alone),
            **agreement("macs", [table.flops(path) for path in paths], alone),
        }
        note = "null: one of the two sides is constant, so no order agrees or disagrees with it"
        return run.finish(
            {"paper": "cream", "stage": "rank_study", "metrics": {"paths": len(paths), **measured},
             "judged_on": judge.name, **({"note": note} if None in measured.values() else {})}
        )  # fmt: skip


def draw_paths(c: RankStudy, window: Window, table: FlopsTable, layout: Layout, seed: int) -> list[Path]:
    """Different paths, uniform among the supernet's (inside the window, where one is given). Raises UserError."""
    rng = seeds.numpy_rng(seed, "rank study")
    paths: list[Path] = []
    for _ in range(REDRAWS):
        path = sample_path(rng, window.sampled, layout.choices)
        inside = c.macs_min <= table.flops(path) <= (c.macs_max or float("inf"))
        if inside and path not in paths:
            paths.append(path)
        if len(paths) == c.paths:
            return paths
    raise UserError(
        f"{len(paths)} different paths in {REDRAWS} draws, --paths asks for {c.paths}; lower it, or widen --macs-min "
        f"and --macs-max"
    )


def shared_accuracies(
    net: Supernet, paths: list[Path], c: RankStudy, share: int, source: data.Source,
    judge: data.Source, resolution: int, device: torch.device,
) -> list[float]:  # fmt: skip
    """Top-1 accuracy in percent of each path with the supernet's weights; share: images of a share of its batch."""
    calibration = calibration_batches(source, c.recalibrate_batches, share, resolution, device, c.workers)
    judged = data.test_batches(judge, c.eval_batch_size, resolution, device, c.workers, c.interpolation)
    found = []
    for path in paths:
        with recalibrated(net, path, calibration):
            found.append(round(100 - path_error(net, path, judged, device).top1_error, 4))
    return found


def accuracy_alone(
    path: Path, place: Folder, c: RankStudy, searched: Search, layout: Layout, source: data.Source,
    judge: data.Source, resolution: int, options: Any,
) -> float:  # fmt: skip
    """Top-1 accuracy in percent of the averaged weights after training from scratch in the folder ``place``."""
    recipe = {f.name: getattr(c, f.name) for f in fields(Recipe)}
    training = Train(
        **recipe, arch=json.dumps(path), single_block="strict", dataset=searched.dataset, resolution=resolution
    )
    arch = Named("path", path, resolution, variant_of(layout))
    trained = train_on(source, judge, training, replace(options, out=place, section="train", resume=True), arch)
    return round(100 - trained["metrics"]["top1_error_percent"], 4)


def plan(settings: RankStudy, options: Any) -> list[str]:
    """What the study would do."""
    from papers.cream.planning import plan_lines

    _, _, searched = finished_search(settings.search)
    window, layout, _ = space_of(searched)
    resolution = resolution_of(searched, window)
    source, held_out, _ = sources(searched, resolution, options)
    data.check_batch(source, settings.batch_size)
    paths = draw_paths(settings, window, table_of(searched, window, layout), layout, options.seed)
    spec = network_spec(paths[0], len(source.classes), layout, single_block_default=False)
    _, recipe = learning_rate(settings, "path")
    lines = plan_lines(
        spec, resolution, recipe * len(paths), len(source), settings.batch_size, data.shares_of(settings), 1.0, 4.0
    )
    where = "held-out images" if held_out is not None else "test set"
    return [
        f"{len(paths)} paths from scratch, {recipe} epochs each; both sides are judged on the {where}; in all:",
        *lines,
    ]
