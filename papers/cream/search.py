"""Cream's search: train the supernet one path at a time, keep the best paths on a board, let them teach the others.

for every batch:                                      (Algorithm 1 of the paper; the numbers are the README's Method)
    sample a path a uniformly                                                                        2  space.draw
    every 200 batches: train the meta layer by the loss after a simulated step of a                  6  meta_update
    teacher, m  <-  board entries scored by the meta layer on a's outputs                            4  choose_teacher
    L = (m L_kd(a, teacher) + (2 - m) L_ce(a)) / 2;  step                                            5  train_student
    offer a to the board                                                                             3  board.offer
the architecture is the head of the last board                                                      10  choose
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from common.data.batches import Epochs
from common.run import distributed, seeds
from common.run.device import autocast, pick_device
from common.run.folder import Run, open_run, say
from common.run.keep import Values
from common.spaces.architecture import save_architecture
from common.train.compiling import compile_operations
from common.weights.read import save_weights
from papers.cream.data import batches as data
from papers.cream.data import sets
from papers.cream.method.board import Board, Entry
from papers.cream.method.distillation import Outcome, train_student
from papers.cream.method.meta import choose_teacher, meta_update, rules_of
from papers.cream.method.path_sgd import PathSGD, parameter_groups
from papers.cream.method.schedules import pace_of, search_lrs
from papers.cream.method.scoring import device_of, outside, path_error, score_paths, scoring_batches, share_size
from papers.cream.method.space import Space, space_of
from papers.cream.method.student import Student
from papers.cream.networks.architectures import ChoicePath
from papers.cream.networks.blocks import BLOCKS
from papers.cream.networks.layout import variant_of
from papers.cream.networks.networks import Supernet
from papers.cream.settings import Search

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

BASELINE = 10**9  # number of the first random path of the baseline, far from those of the iterations


def search(settings: Search, options: RunOptions) -> dict[str, Any]:
    """Run the search; writes architecture.json, supernet.safetensors and result.json. Raises UserError."""
    space, rules = space_of(settings), rules_of(settings)
    if settings.enforce_window:
        space.draw(options.seed, 0)  # a window without a path is refused before anything is opened
    device = pick_device(options)
    distributed.setup()
    parts, batches, checked = opened(settings, space, options, device)
    pace, images = pace_of(settings, len(parts.train)), settings.batch_size / distributed.world_size()
    with open_run(options, settings, data=[parts.train, parts.test]) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        classes = len(parts.train.classes)
        supernet = Supernet(space.window.built, classes, settings.slice, space.layout).to(device).train()
        distributed.broadcast(supernet.state_dict().values())
        compile_operations(supernet, options, *BLOCKS.values())
        optimizer = PathSGD(parameter_groups(supernet, settings.weight_decay), settings.momentum, settings.zero_grad)
        board, tally = Board(settings.pool_size, settings.acc_gap), Tally()
        run.keeps(supernet=supernet, optimizer=optimizer, board=board, tally=tally)

        for epoch in run.epochs(settings.epochs):
            board_is_open = settings.method == "cream" and epoch > settings.start_epoch
            for step, shares in run.steps(batches.in_shares(), epoch):
                iteration = epoch * pace.iterations + step
                path = space.draw(options.seed, iteration)
                optimizer.lrs = search_lrs(settings, iteration, pace.total)
                student = Student(supernet, optimizer, path, shares, images)
                with autocast(device, options.precision):
                    if len(board) and pace.update_due(step):
                        meta_update(student, board, rules, settings.label_smoothing)
                        tally.meta_updates += 1
                    teacher = choose_teacher(student, board, rules) if len(board) else None
                    outcome = train_student(
                        student, teacher, settings.label_smoothing, settings.stored, epoch=epoch, batch=step
                    )
                entry = Entry(outcome.score, space.mflops(path), path, outcome.images, outcome.probabilities)
                tally.count(outcome, admitted=board_is_open and board.offer(entry))
            optimizer.flush()
            error = path_error(supernet, space.draw(options.seed, -1 - epoch), checked)
            lr = search_lrs(settings, (epoch + 1) * pace.iterations - 1, pace.total)[0]
            run.log(epoch=epoch, lr=lr, **tally.epoch(), random_path_top1_error_percent=error.top1_error,
                    **board.summary(), **tally.counts())  # fmt: skip

        chosen, scored = choose(settings, space, supernet, board, parts, options.seed)
        return run.finish(report(run, settings, space, supernet, board, tally, chosen, scored))


def opened(
    settings: Search, space: Space, options: RunOptions, device: torch.device
) -> tuple[sets.Parts, Epochs, Epochs]:
    """The parts of the set, batches of training images, and those that an epoch is checked on."""
    parts = sets.search_parts(settings, space.resolution, options)
    batches = data.train_batches(parts.train, settings, space.resolution, options.seed, device, settings.jitter)
    size = 4 * share_size(settings, distributed.world_size()) * distributed.world_size()
    checked = data.plain_batches(parts.test, size, space.resolution, device, settings.workers, "bilinear")
    return parts, batches, checked


class Tally(Values):
    """What a search counts: sums over the iterations of an epoch, and events of the whole search."""

    steps: int
    loss: float
    score: float
    iterations: int
    distilled: int
    meta_updates: int
    admitted: int

    def __init__(self) -> None:
        super().__init__(steps=0, loss=0.0, score=0.0, iterations=0, distilled=0, meta_updates=0, admitted=0)

    def count(self, outcome: Outcome, admitted: bool) -> None:
        """One iteration more."""
        self.steps += 1
        self.loss += outcome.loss
        self.score += outcome.score
        self.iterations += 1
        self.distilled += outcome.soft_loss is not None
        self.admitted += admitted

    def epoch(self) -> dict[str, Any]:
        """Means over the epoch, which is then over."""
        means = {"loss": self.loss / self.steps, "train_top1_percent": self.score / self.steps}
        self.steps, self.loss, self.score = 0, 0.0, 0.0
        return means

    def counts(self) -> dict[str, Any]:
        """Events since the search began."""
        return {name: getattr(self, name) for name in ("iterations", "distilled", "meta_updates", "admitted")}


def choose(
    settings: Search, space: Space, supernet: Supernet, board: Board, parts: sets.Parts, seed: int
) -> tuple[ChoicePath, list[dict[str, Any]]]:
    """(final path, scored paths): the head of the board, or the best of board or random paths after re-scoring."""
    paths = [entry.path for entry in board.entries]
    if settings.method == "cream" and settings.choose == "head":
        return paths[0], []
    if settings.method == "random":
        drawn = [space.draw(seed, BASELINE + i) for i in range(settings.candidates or settings.pool_size)]
        paths = [path for i, path in enumerate(drawn) if path not in drawn[:i]]
    bounds = (settings.macs_min, settings.macs_max)
    share = share_size(settings, distributed.world_size())
    images = scoring_batches(parts, settings, share, space.resolution, device_of(supernet), settings.workers)
    rows = score_paths(supernet, paths, space, bounds, *images)
    if not rows[0]["inside"]:
        say(f"note: {outside(bounds)}; the best of those outside was chosen")
    return rows[0]["path"], rows


def report(
    run: Run, settings: Search, space: Space, supernet: Supernet, board: Board, tally: Tally, chosen: ChoicePath,
    scored: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """Write the architecture and the supernet; what result.json says."""
    about = {"paper": "cream", "dataset": settings.dataset, "classes": supernet.classes}
    architecture = space.architecture(chosen)
    if run.writes:
        chosen_by = settings.choose if settings.method == "cream" else "rescore"
        origin = {**about, "method": settings.method, "seed": run.options.seed, "chosen_by": chosen_by}
        save_architecture(run.folder / "architecture.json", "cream", architecture, origin)
        built = {"blocks": space.window.built, "slice": settings.slice, **variant_of(space.layout)}
        save_weights(supernet, run.folder / "supernet.safetensors", {**about, "stage": "search", **built})
    metrics = {
        **tally.counts(), "board_size": len(board), **space.sizes(chosen, supernet.classes),
        "supernet_parameters": sum(p.numel() for p in supernet.parameters()),
    }  # fmt: skip
    if scored:
        metrics["supernet_top1_error_percent"] = scored[0]["top1_error_percent"]
    window = {"blocks": list(space.window.sampled), "resolution": space.window.resolution}
    return {
        "paper": "cream", "stage": "search", "metrics": metrics, "architecture": architecture, "board": board.rows(),
        "scored": scored, "window": window, "final_state": {"epochs": settings.epochs},
    }  # fmt: skip
