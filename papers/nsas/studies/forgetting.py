"""Does the constraint matter?  Supernets on NAS-Bench-201 with M = 0, 2, 4, 8 constraints, with and without gradient.

Measured: forgetting (accuracy of earlier architectures on a fixed probe set before and after the updates between two
probes), Kendall's tau of the supernet's ranking against the tables, accuracy of the chosen cell, seconds.
The constraint set is the paper's archive (novelty search with the per-edge distance); loss "authors" keeps constraint
losses as numbers, loss "paper" differentiates them.  M = 0 is RandomNAS.

For one seed every form of the loss starts from the same weights and sees the same batches and the same sampled
architectures (all are functions of seed, epoch and step), so forms are compared seed by seed.

A run writes result.json, forgetting.csv, cells.csv, figure.svg and paragraph.txt; ``--summarise FOLDER`` joins all runs
below a folder into study.csv, contrasts.csv, costs.csv, figure.svg, figure.png and paragraph.txt.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import nn

from common.cli.errors import UserError
from common.data.nasbench201 import DATASETS, Table
from common.run import seeds
from common.run.files import write_text
from common.run.folder import check_finite, open_run
from common.train.device import pick_device
from papers.nsas.method.novelty import Archive, distance_by_slot
from papers.nsas.method.schedules import cosine
from papers.nsas.nasbench201 import constraints as c201
from papers.nsas.nasbench201.parts import Touched, constant_loss, drawer, live_loss, make_sgd, open_halves
from papers.nsas.nasbench201.settings import SearchNb201Random
from papers.nsas.network.networks import build_nb201_supernet, code_logits, renew_statistics
from papers.nsas.network.paths import frozen_statistics
from papers.nsas.processes import one_process
from papers.nsas.studies import summary as study
from papers.nsas.studies.settings import Experiment

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

Code = tuple[int, ...]
WATCHED = 4  # architectures whose accuracy is followed from one probe to the next


def run(settings: Experiment, options: RunOptions) -> dict:
    """One cell of the study: one loss, one M, one seed; or the summary of those that are done."""
    if settings.summarise:
        return summary(settings, options)
    one_process("the experiment")
    if settings.loss == "both":
        return both(settings, options)
    device = pick_device(options)
    train, valid, pins, note = open_batches(settings, options, device)
    step_loss = live_loss if settings.loss == "paper" else constant_loss
    shares = [1.0 - settings.mix] if settings.constraints else [1.0]
    with open_run(options, settings, {"data": pins}) as work:
        if work.result is not None:
            return work.result
        seeds.seed_everything(options.seed)
        started = time.process_time()
        model = build_nb201_supernet(settings.channels, settings.cells, len(train.images.classes)).to(device)
        optimizer, touched = make_sgd(model.parameters(), settings), Touched(model)
        archive = Archive(settings.constraints, settings.recent, settings.neighbours, measure=distance_by_slot)
        probe = next(iter(valid.epoch(0)))
        trained: list[Code] = []  # the last architectures that were sampled
        watched: list[tuple[Code, float]] = []
        drops: list[tuple[int, float]] = []
        first, spent = 0, 0.0
        if state := work.load():
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            touched.restore(state["touched"])
            archive.members, archive.recent, trained = (
                [tuple(c) for c in state[n]] for n in ("members", "recent", "trained")
            )
            watched = [(tuple(c), before) for c, before in state["watched"]]
            drops = [(at, points) for at, points in state["drops"]]
            first, spent = state["epoch"], state["spent"]
        for epoch in range(first, settings.epochs):
            lr = cosine(epoch, settings.lr, settings.lr_min, settings.epochs)
            optimizer.param_groups[0]["lr"] = lr
            for step, (x, y) in enumerate(train.epoch(epoch)):
                model.train()
                draw = drawer(seeds.numpy_rng(options.seed, "architecture", epoch, step))
                current = c201.random_code(draw)
                archive.update(current, lambda: c201.random_code(draw))  # noqa: B023
                members = list(archive.members)
                weights = [shares[0] if members else 1.0] + [settings.mix / max(1, len(members))] * len(members)
                optimizer.zero_grad()
                loss, _ = step_loss(model, x, y, [current, *members], weights)
                check_finite(loss, step=step, architecture=current)
                touched.note(current, *(members if settings.loss == "paper" else []))
                touched.fill()
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
                optimizer.step()
                trained = [*trained, current][-WATCHED:]
                at = epoch * len(train) + step + 1
                if at % settings.probe_every == 0:
                    # how the architectures noted at the last probe fare after the updates since
                    drops += [(at, before - accuracy(model, code, *probe)) for code, before in watched]
                    watched = [(code, accuracy(model, code, *probe)) for code in trained]
            forgetting = mean_drop(drops)
            work.log(epoch=epoch + 1, lr=lr, loss=float(loss), forgetting_points=forgetting)
            work.save({
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1,
                "members": [list(c) for c in archive.members], "recent": [list(c) for c in archive.recent],
                "trained": [list(c) for c in trained], "watched": [[list(c), before] for c, before in watched],
                "touched": touched.state(), "drops": [list(d) for d in drops],
                "spent": spent + time.process_time() - started,
            })  # fmt: skip
        metrics = {"forgetting_points": mean_drop(drops)}
        codes, scores, truth = ranking(model, train, valid, settings, options)
        metrics["chosen_supernet_accuracy_percent"] = max(scores)
        metrics["mean_supernet_accuracy_percent"] = float(np.mean(scores))
        if truth is not None:
            metrics["chosen_test_accuracy_percent"] = truth[int(np.argmax(scores))]
            if len(set(scores)) > 1:  # tau has no value where all scores are alike
                metrics["tau"] = float(kendalltau(scores, truth).statistic)
        for at, points in drops:
            work.log("forgetting", step=at, points=points)
        for number, code in enumerate(codes):
            alone = float("nan") if truth is None else truth[number]
            work.log("cells", cell="c" + "".join(map(str, code)), supernet_percent=scores[number], test_percent=alone)
        title = study.label(settings.loss, settings.constraints)
        study.figure_of_run(work.folder / "figure.svg", title, drops, scores, truth)
        text = study.sentence_of_run(settings.loss, settings.constraints, metrics)
        write_text(work.folder / "paragraph.txt", text)
        work.log("cost", process_seconds=spent + time.process_time() - started)
        return work.finish({"metrics": metrics, "note": note, "paragraph": text})


def open_batches(settings: Experiment, options: RunOptions, device: torch.device):
    """(training batches, batches that rank, pins, origin of the halves)."""
    fill = SearchNb201Random(
        dataset=settings.dataset, train_images=settings.train_images, select_images=settings.rank_images,
        batch_size=settings.batch_size, select_batch_size=settings.probe_images,
    )  # fmt: skip
    return open_halves(fill, options, device, "test")


def both(settings: Experiment, options: RunOptions) -> dict:
    """The authors' and the paper's loss one after the other, from the same weights on the same batches: what the
    gradient through the constraints changes. Each is a run in a folder of its own; the result has both side by side.
    """
    pins = open_batches(settings, options, torch.device("cpu"))[2]
    with open_run(options, settings, {"data": pins}) as work:
        if work.result is not None:
            return work.result
        found = {}
        for loss in ("authors", "paper"):
            one = replace(options, out=work.folder / loss)
            found[loss] = run(replace(settings, loss=loss), one)["metrics"]
        metrics = {f"{key}_{loss}": value for loss in found for key, value in found[loss].items()}
        shared = [key for key in found["paper"] if key in found["authors"]]  # tau may be undefined in one of them
        metrics |= {f"{key}_difference": found["paper"][key] - found["authors"][key] for key in shared}
        return work.finish({"metrics": metrics})


def summary(settings: Experiment, options: RunOptions) -> dict:
    """All finished runs below ``settings.summarise``: study.csv, figure.svg, paragraph.txt."""
    rows = study.collect(Path(settings.summarise))
    keys = {f"{r['loss']}-{r['constraints']}-{r['seed']}": str(r["forgetting_points"]) for r in rows}
    with open_run(options, settings, {"runs": keys}) as work:
        if work.result is not None:
            return work.result
        text = study.paragraph(rows)
        write_text(work.folder / "study.csv", study.table(rows, study.COLUMNS))
        write_text(work.folder / "contrasts.csv", study.table(study.contrasts(rows), study.CONTRAST))
        write_text(work.folder / "costs.csv", study.table(rows, study.COSTS))
        write_text(work.folder / "paragraph.txt", text)
        study.figure([work.folder / "figure.svg", work.folder / "figure.png"], rows)
        return work.finish({"metrics": {"runs": len(rows)}, "paragraph": text})


def mean_drop(drops: list[tuple[int, float]]) -> float:
    """Mean of the measured losses of accuracy, points."""
    return float(np.mean([d for _, d in drops])) if drops else 0.0


@torch.no_grad()
def accuracy(model: nn.Module, code: Code, x: torch.Tensor, y: torch.Tensor) -> float:
    """Percent on a fixed batch, batch statistics, running values left alone."""
    model.train()
    with frozen_statistics(model):
        return 100.0 * float((code_logits(model, x, code).argmax(1) == y).float().mean())


@torch.no_grad()
def ranking(
    model, train, valid, settings: Experiment, options: RunOptions
) -> tuple[list[Code], list[float], list[float] | None]:
    """Random cells, their supernet accuracies (statistics renewed for each) and those of the tables, where at hand."""
    draw = drawer(seeds.numpy_rng(12345, "ranked cells"))  # the same cells for every run of the study
    codes = [c201.random_code(draw) for _ in range(settings.rank_cells)]
    scores = []
    for code in codes:
        renew_statistics(model, partial(code_logits, model, code=code), train, settings.recalibrate_batches)
        model.eval()
        right = count = 0
        for x, y in valid.epoch(0):
            right += int((code_logits(model, x, code).argmax(1) == y).sum())
            count += len(y)
        scores.append(100.0 * right / count)
    if train.images.name not in DATASETS:
        return codes, scores, None  # the tables have no accuracies of networks trained on this set
    try:
        table = Table.open(options)
    except UserError:
        return codes, scores, None
    return codes, scores, [table.lookup(code, train.images.name, "test") for code in codes]
