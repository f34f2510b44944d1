"""Does the constraint matter? Supernets on NAS-Bench-201 with M = 0, 2, 4, 8 constraints, with and without gradient.

Measured: forgetting (accuracy of earlier architectures on a fixed probe set before and after the updates between two
probes), Kendall's tau of the supernet's ranking against the tables, accuracy of the chosen cell, seconds.
The constraint set is the paper's archive (novelty search with the per-edge distance); loss "authors" keeps constraint
losses as numbers, loss "paper" differentiates them. M = 0 is RandomNAS.

For one seed every form of the loss starts from the same weights and sees the same batches and the same sampled
architectures (all are functions of seed, epoch and step), so forms are compared seed by seed.

A run writes result.json, forgetting.csv, cells.csv, figure.svg and paragraph.txt, with ``--rank-every`` also ranks.csv:
how the order of the cells comes about over the epochs; ``--summarise FOLDER`` joins all runs below a folder into
study.csv, contrasts.csv, costs.csv, figure.svg, figure.png and paragraph.txt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from common.data.batches import Batches, Order
from common.data.parts import take
from common.run import seeds
from common.run.device import pick_device
from common.run.distributed import one_process
from common.run.files import write_text
from common.run.folder import open_run
from common.run.keep import Values
from common.run.progress import shows
from common.spaces.nasbench201.network import Supernet
from common.train.batchnorm import kept
from common.train.losses import check_finite, with_gradients
from common.train.metrics import kendall_tau
from common.train.schedules import cosine
from papers.nsas.method.novelty import Archive, distance_by_slot
from papers.nsas.nasbench201.constraints import Code, random_code, uniform
from papers.nsas.nasbench201.loss import constant_loss, live_loss
from papers.nsas.nasbench201.result import short, table_accuracies
from papers.nsas.nasbench201.supernet import batches_of, code_logits, open_halves, open_supernet, scoring_batches
from papers.nsas.networks.supernet import norms_of, renew_statistics
from papers.nsas.studies import summary as study
from papers.nsas.studies.probe import Clock, Probe
from papers.nsas.studies.settings import Experiment

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions
    from common.run.folder import Run


def experiment(settings: Experiment, options: RunOptions) -> dict:
    """One run of the study: one loss, one M, one seed; both losses; or the summary of the runs that are done."""
    if settings.summarise:
        return summary(settings, options)
    one_process("the experiment")
    return both_losses(settings, options) if settings.loss == "both" else forgetting(settings, options)


def forgetting(settings: Experiment, options: RunOptions) -> dict:
    """Train a supernet under one form of the loss, measuring forgetting on the way; then rank random cells (Method 17).

    for each batch: sample a cell a_t; update the archive with it;
        step on L(w) = (1 - eps) CE(w; a_t) + (eps / M) sum_i CE(w; a_i), a_i the archive's cells, same batch
        every so many steps: what the cells trained before the last probe have lost since; note those trained now
        every so many epochs: score random cells, with renewed batch-norm values and with those of the training
    afterwards: score random cells with shared weights, compare the order with the tables'
    """
    device = pick_device(options)
    train, valid, note = open_batches(settings, options, device)
    loss_of = live_loss if (gradient := settings.loss == "paper") else constant_loss
    cells = ranked_cells(settings.rank_cells)
    truth = table_accuracies(cells, train.images.name, options)
    with open_run(options, settings, data=train.images) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        supernet, optimizer, touched = open_supernet(settings, len(train.images.classes), device)
        archive = Archive[Code](settings.constraints, settings.recent, settings.neighbours, measure=distance_by_slot)
        probe, clock, now = Probe(supernet, *next(iter(valid.epoch(0)))), Clock(), Values(loss=0.0)
        scores, ranks = list[float](), list[tuple[float, float]]()
        run.keeps(
            supernet=supernet, optimizer=optimizer, touched=touched, archive=archive, probe=probe, clock=clock, now=now,
            scores=scores, ranks=ranks,
        )  # fmt: skip
        for epoch in run.epochs(settings.epochs):
            optimizer.param_groups[0]["lr"] = lr = cosine(settings.lr, settings.lr_min, epoch, settings.epochs)
            for step, (x, y) in run.steps(train, epoch):
                supernet.train()
                draw = uniform(seeds.numpy_rng(options.seed, "architecture", epoch, step))
                current = random_code(draw)
                archive.update(current, partial(random_code, draw))
                constraints = archive.members
                optimizer.zero_grad()
                weights = shares(settings.mix, len(constraints))
                loss, _ = loss_of(supernet, x, y, [current, *constraints], weights)
                now.loss = check_finite(with_gradients(loss, supernet.parameters()), step=step, architecture=current)
                touched.fill(current, *(constraints if gradient else []))
                nn.utils.clip_grad_norm_(supernet.parameters(), settings.clip)
                optimizer.step()
                probe.trained(current)
                at = epoch * len(train) + step + 1
                if at % settings.probe_every == 0:
                    probe.measure(at)
            if settings.rank_every and (epoch + 1) % settings.rank_every == 0:
                for _, code in run.each(cells, "ranked"):
                    ranks.append(two_scores(supernet, code, train, valid, settings.recalibrate_batches))
                write_ranks(run, epoch, cells, ranks, truth)
            run.log(epoch=epoch, lr=lr, loss=now.loss, forgetting_points=probe.mean())
        for _, code in run.each(cells, "cell"):
            scores.append(score(supernet, code, train, valid, settings.recalibrate_batches))
        metrics = {"forgetting_points": probe.mean(), **ranking(scores, truth)}
        text = study.sentence_of_run(settings.loss, settings.constraints, metrics)
        write(run, probe.drops, cells, scores, truth)
        title = study.label(settings.loss, settings.constraints)
        study.figure_of_run(run.folder / "figure.svg", title, probe.drops, scores, truth)
        write_text(run.folder / "paragraph.txt", text)
        run.log("cost", process_seconds=clock.seconds())
        return run.finish({"metrics": metrics, "note": note, "paragraph": text})


def open_batches(settings: Experiment, options: RunOptions, device: torch.device) -> tuple[Batches, Batches, str]:
    """(training batches, batches that rank and probe, where the halves are from)."""
    first, second, note = open_halves(settings.dataset, settings.train_images, options)
    second = take(second, settings.rank_images, "--rank-images")
    train = batches_of(first, settings.batch_size, Order(options.seed), device)
    return train, scoring_batches(second, settings.probe_images, options, device), note


def shares(mix: float, constraints: int) -> list[float]:
    """Weights of the current cell and of each constraint: 1 - eps, then eps / M each; 1 without any."""
    return [1.0 - mix if constraints else 1.0] + [mix / max(1, constraints)] * constraints


def ranked_cells(count: int) -> list[Code]:
    """Random cells, the same for every run of the study."""
    draw = uniform(seeds.numpy_rng(12345, "ranked cells"))
    return [random_code(draw) for _ in range(count)]


@torch.no_grad()
def score(supernet: Supernet, code: Code, train: Batches, valid: Batches, recalibrate: int) -> float:
    """Accuracy in percent of a cell with shared weights, batch-norm values renewed on ``recalibrate`` batches."""
    if recalibrate:
        renew_statistics(supernet, partial(code_logits, supernet, code=code), train, recalibrate)
    return accuracy(supernet, code, valid)


@torch.no_grad()
def accuracy(supernet: Supernet, code: Code, valid: Batches) -> float:
    """Accuracy in percent of a cell with shared weights, batch-norm values as they are."""
    supernet.eval()
    right = count = 0
    for x, y in shows(valid, "score"):
        right += int((code_logits(supernet, x, code).argmax(1) == y).sum())
        count += len(y)
    return 100.0 * right / count


def two_scores(supernet: Supernet, code: Code, train: Batches, valid: Batches, recalibrate: int) -> tuple[float, float]:
    """The score of a cell with the batch-norm values that the training left, which stay, and with renewed ones."""
    with kept(norms_of(supernet)):
        return accuracy(supernet, code, valid), score(supernet, code, train, valid, recalibrate)


def ranking(scores: Sequence[float], truth: Sequence[float] | None) -> dict[str, float]:
    """The chosen cell's and the mean accuracy with shared weights; where the tables are, its accuracy there and tau."""
    metrics = {
        "chosen_supernet_accuracy_percent": max(scores),
        "mean_supernet_accuracy_percent": float(np.mean(scores)),
    }
    if truth is not None:
        metrics["chosen_test_accuracy_percent"] = truth[int(np.argmax(scores))]
        if len(set(scores)) > 1:  # tau has no value where all scores are alike
            metrics["tau"] = kendall_tau(scores, truth)
    return metrics


def write(
    run: Run, drops: Sequence[tuple[int, float]], cells: Sequence[Code], scores: Sequence[float],
    truth: Sequence[float] | None,
) -> None:  # fmt: skip
    """forgetting.csv and cells.csv."""
    for step, points in drops:
        run.log("forgetting", step=step, points=points)
    for number, code in enumerate(cells):
        alone = math.nan if truth is None else truth[number]
        run.log("cells", cell=short(code), supernet_percent=scores[number], test_percent=alone)


def write_ranks(
    run: Run, epoch: int, cells: Sequence[Code], ranks: list[tuple[float, float]], truth: Sequence[float] | None
) -> None:
    """The rows of an epoch in ranks.csv: a cell's accuracy with shared weights, both ways, and trained alone. Empties
    ``ranks`` for the next time.
    """
    for number, (code, (trained, renewed)) in enumerate(zip(cells, ranks, strict=True)):
        alone = math.nan if truth is None else truth[number]
        run.log(
            "ranks", epoch=epoch, cell=short(code), as_trained_percent=trained, renewed_percent=renewed,
            test_percent=alone,
        )  # fmt: skip
    ranks.clear()


def both_losses(settings: Experiment, options: RunOptions) -> dict:
    """The authors' and the paper's loss one after the other, from the same weights on the same batches: what the
    gradient through the constraints changes. Each is a run in a folder of its own; the result has both side by side.
    """
    images = open_batches(settings, options, torch.device("cpu"))[0].images
    with open_run(options, settings, data=images) as run:
        if run.result is not None:
            return run.result
        found = {}
        for loss in ("authors", "paper"):
            one = replace(options, out=run.folder / loss)
            found[loss] = forgetting(replace(settings, loss=loss), one)["metrics"]
        metrics = {f"{key}_{loss}": value for loss in found for key, value in found[loss].items()}
        shared = [key for key in found["paper"] if key in found["authors"]]  # tau may be undefined in one of them
        metrics |= {f"{key}_difference": found["paper"][key] - found["authors"][key] for key in shared}
        return run.finish({"metrics": metrics})


def summary(settings: Experiment, options: RunOptions) -> dict:
    """All finished runs below ``settings.summarise``: study.csv, contrasts.csv, costs.csv, figures, paragraph.txt."""
    rows = study.collect(Path(settings.summarise))
    keys = {f"{r['loss']}-{r['constraints']}-{r['seed']}": str(r["forgetting_points"]) for r in rows}
    with open_run(options, settings, runs=keys) as run:
        if run.result is not None:
            return run.result
        text = study.paragraph(rows)
        write_text(run.folder / "study.csv", study.as_csv(rows, study.COLUMNS))
        write_text(run.folder / "contrasts.csv", study.as_csv(study.contrasts(rows), study.CONTRAST))
        write_text(run.folder / "costs.csv", study.as_csv(rows, study.COSTS))
        write_text(run.folder / "paragraph.txt", text)
        study.figure([run.folder / "figure.svg", run.folder / "figure.png"], rows)
        return run.finish({"metrics": {"runs": len(rows)}, "paragraph": text})
