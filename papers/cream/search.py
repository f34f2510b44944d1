"""Cream's search: train the supernet one path at a time, keep the best paths on a board, let them teach the others.

for every batch:                                                  (Algorithm 1 of the paper)
    sample a path a uniformly
    every 200 batches: update the meta layer by the validation loss after a simulated student step
    teacher, m  <-  board entries scored by the meta layer on a's outputs
    L = (m L_kd(a, teacher) + (2 - m) L_ce(a)) / 2;  step
    offer a to the board
the architecture is the head of the last board
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from common.cli.errors import UserError
from common.data.parts import split, take
from common.run import seeds
from common.run.folder import open_run, say
from common.spaces.architecture import save_architecture
from common.train import distributed
from common.train.device import autocast, pick_device
from common.weights.read import save_weights
from papers.cream.data import batches as data
from papers.cream.method.board import Board
from papers.cream.method.board_processes import board_state, restore_board
from papers.cream.method.iteration import StepRules, search_step
from papers.cream.method.meta import MetaRules
from papers.cream.method.pace import Pace, pace_of
from papers.cream.method.path_sgd import PathSGD, learning_rates, parameter_groups
from papers.cream.method.sampling import sample_path
from papers.cream.method.scoring import outside, path_error, score_paths
from papers.cream.method.window import Window, flops_table, supernet_window
from papers.cream.network.architectures import Path
from papers.cream.network.layout import FlopsTable, Layout, network_spec, variant_of
from papers.cream.network.networks import Supernet
from papers.cream.settings import Search

REDRAWS = 10_000  # tries to find a path inside the window


def search(settings: Search, options: Any) -> dict[str, Any]:
    """Run the search; writes architecture.json, supernet.safetensors and result.json. Raises UserError."""
    window, layout, rules = space_of(settings)
    check_shares(settings)
    device = pick_device(options)
    distributed.setup()
    parts = data.shares_of(settings) // distributed.world_size()
    resolution = resolution_of(settings, window)
    source, held_out, test = sources(settings, resolution, options)
    batches = data.train_batches(source, settings, resolution, options.seed, device, settings.jitter)
    each = 4 * scoring_batch(settings, distributed.world_size()) * distributed.world_size()
    validated = data.test_batches(test, each, resolution, device, settings.workers, "bilinear")
    pace = pace_of(settings, len(source))
    rules = replace(rules, update_every=pace.update_every)
    classes = len(source.classes)

    with open_run(options, settings, data.data_pins(source, test)) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        net = Supernet(window.built, classes, settings.slice, layout).to(device).train()
        distributed.broadcast(net.state_dict().values())
        optimizer = PathSGD(parameter_groups(net, settings.weight_decay), settings.momentum, settings.zero_grad)
        board = Board(settings.pool_size, settings.acc_gap, settings.start_epoch)
        if settings.method == "random":
            board.start_epoch = settings.epochs  # nothing is ever admitted, so nothing is ever distilled
        table = table_of(settings, window, layout)
        counts = {"iterations": 0, "distilled": 0, "meta_updates": 0, "admitted": 0}
        epoch, start, sums = 0, 0, [0.0, 0.0]
        state = run.load()
        if state is not None:
            net.load_state_dict(state["net"])
            optimizer.load_state_dict(state["optimizer"])
            restore_board(board, state["board"], parts)
            epoch, start, sums, counts = state["epoch"], state["batch"], state["sums"], state["counts"]

        def save() -> None:
            run.save(
                {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "board": board_state(board),
                 "epoch": epoch, "batch": start, "sums": list(sums), "counts": dict(counts)}
            )  # fmt: skip

        while epoch < settings.epochs:
            stream = batches.shares(epoch, start)
            for j in run.progress(range(start, pace.iterations), f"epoch {epoch}"):
                step = epoch * pace.iterations + j
                seeds.step_chance(options.seed, epoch, j)
                path = draw_path(settings, window, table, layout, options.seed, step)
                lrs = learning_rates(step, pace.total, settings.lr, settings.meta_lr, settings.lr_rule)
                group = next(stream)
                with autocast(device, options.precision):
                    report = search_step(
                        net, optimizer, board, table, path, epoch, j, group, lrs, rules, distributed.all_reduce_mean,
                        batches.size(j) / distributed.world_size(),
                    )  # fmt: skip
                sums = [sums[0] + report.loss, sums[1] + report.score]
                counts["iterations"] += 1
                counts["distilled"] += report.teacher is not None
                counts["meta_updates"] += report.meta is not None
                counts["admitted"] += report.accepted
                start = j + 1
                if run.due():
                    save()
            optimizer.flush()
            checked = draw_path(settings, window, table, layout, options.seed, -1 - epoch)
            validation = path_error(net, checked, validated, device)
            last = (epoch + 1) * pace.iterations - 1  # not the loop's: that is empty after a resume at the epoch's end
            last_rate = learning_rates(last, pace.total, settings.lr, settings.meta_lr, settings.lr_rule)[0]
            run.log(
                epoch=epoch, lr=last_rate, loss=sums[0] / pace.iterations,
                train_top1_percent=sums[1] / pace.iterations, random_path_top1_error_percent=validation.top1_error,
                board=len(board),
                board_best=board.entries[0].score if len(board) else None,
                board_best_mflops=board.entries[0].flops if len(board) else None, **counts,
            )  # fmt: skip
            epoch, start, sums = epoch + 1, 0, [0.0, 0.0]
            save()

        chosen, rows = choose(
            settings, net, board, table, window, layout, source, held_out, resolution, options, device
        )
        if rows and not rows[0]["inside"]:
            say(f"note: {outside(settings.macs_min, settings.macs_max)}; the best of those outside was chosen")
        spec = network_spec(chosen, classes, layout, single_block_default=False)
        origin = {"paper": "cream", "method": settings.method, "seed": options.seed, "dataset": settings.dataset,
                  "classes": classes,
                  "chosen_by": settings.choose if settings.method == "cream" else "rescore"}  # fmt: skip
        architecture = {"path": chosen, "resolution": resolution, **variant_of(layout)}
        if distributed.rank() == 0:
            save_architecture(run.folder / "architecture.json", "cream", architecture, origin)
            about = {"paper": "cream", "stage": "search", "dataset": settings.dataset, "classes": classes,
                     "blocks": window.built, "slice": settings.slice, **variant_of(layout)}  # fmt: skip
            save_weights(net, run.folder / "supernet.safetensors", about)
        metrics = {
            **counts, "board_size": len(board), "mflops_search_table": table.flops(chosen),
            "parameters": spec.count("parameters"), "macs": spec.count("macs", resolution),
            "supernet_parameters": sum(p.numel() for p in net.parameters()),
        }  # fmt: skip
        if rows:
            metrics["supernet_top1_error_percent"] = rows[0]["top1_error_percent"]
        return run.finish({
            "paper": "cream", "stage": "search", "metrics": metrics, "architecture": architecture,
            "board": board.rows(),
            "scored": rows, "window": {"blocks": list(window.sampled), "resolution": window.resolution},
            "final_state": {"epochs": settings.epochs},
        })  # fmt: skip


def space_of(settings: Search) -> tuple[Window, Layout, StepRules]:
    """Window, layout and the switches of an iteration, resolved once. Raises UserError for values that cannot work."""
    window = supernet_window(settings.macs_min, settings.macs_max)
    layout = Layout(resunit=settings.resunit, dil_conv=settings.dil_conv, pool=settings.pool)
    meta = MetaRules(
        settings.meta_value, settings.meta_gradient, settings.meta_weights, settings.step_sign, settings.pick
    )
    admitted = (settings.macs_min, settings.macs_max) if settings.enforce_window else None
    rules = StepRules(
        settings.start_epoch,
        settings.update_every,
        settings.slice,
        settings.label_smoothing,
        settings.stored,
        admitted,
        meta,
    )  # fmt: skip
    return window, layout, rules


def table_of(settings: Search, window: Window, layout: Layout) -> FlopsTable:
    """Costs that paths are ranked and held to the window by: at 224 as released; with ``apply_resolution`` at the
    window's own resolution, without which no path fits a window below 80 MFLOPs.
    """
    return flops_table(window, layout, window.resolution if settings.apply_resolution else 224)


def resolution_of(settings: Search, window: Window) -> int:
    """Training resolution; with ``apply_resolution`` in the window's proportion to 224 (the window's own at 224).

    Raises UserError when that proportion leaves too little.
    """
    if not settings.apply_resolution:
        return settings.resolution
    resolution = settings.resolution * window.resolution // 224
    if resolution < data.SMALLEST:
        raise UserError(
            f"--apply-resolution makes {resolution} pixels of --resolution {settings.resolution} in this window "
            f"({window.resolution} of 224), the least is {data.SMALLEST}; raise --resolution or --macs-max"
        )
    return resolution


def sources(
    settings: Search, resolution: int, options: Any, judging: str = "val"
) -> tuple[data.Source, data.Source | None, data.Source]:
    """(searched images, held-out images or None, the split ``judging``: ``val`` for the search's check of an epoch)."""
    train = data.open_source(settings.dataset, "train", resolution, options)
    train = data.subset(train, settings.subset_classes, settings.subset_images)
    train = take(train, settings.train_images, "--train-images")
    test = data.first_classes(data.open_source(settings.dataset, judging, resolution, options), settings.subset_classes)
    if not settings.holdout:
        return train, None, test
    if settings.holdout >= len(train):
        raise UserError(f"--holdout {settings.holdout} leaves none of the {len(train)} training images; lower it")
    searched, held_out = split(train, -settings.holdout, "--holdout")
    return searched, held_out, test


def check_shares(settings: Search) -> None:
    """Raises UserError where a share of the batch has too few images for the board and a meta update."""
    shares = data.shares_of(settings)
    if settings.batch_size // shares < 2 * settings.slice:
        raise UserError(
            f"--batch-size {settings.batch_size} in {shares} share(s) must be at least 2 x --slice {settings.slice} "
            f"images a share; raise --batch-size, or lower --parts or --slice"
        )


def scoring_batch(settings: Search, processes: int) -> int:
    """Images of a batch that only looks at paths: one share, as much as one GPU of the original held.

    processes: those that the search had, which say its shares where ``parts`` does not.
    """
    return settings.batch_size // (settings.parts or processes)


def draw_path(settings: Search, window: Window, table: FlopsTable, layout: Layout, seed: int, step: int) -> Path:
    """The path of an iteration: a function of seed and step alone, so the same on every rank and after a resume."""
    rng = seeds.numpy_rng(seed, "path", step)
    weights = settings.probabilities if settings.sampling == "weighted" else None
    for _ in range(REDRAWS):
        path = sample_path(rng, window.sampled, layout.choices, weights)
        if not settings.enforce_window or settings.macs_min <= table.flops(path) <= settings.macs_max:
            return path
    counted = "counted at the resolution of the window" if settings.apply_resolution else "counted at 224"
    raise UserError(
        f"no path with {settings.macs_min:g} to {settings.macs_max:g} MFLOPs in {REDRAWS} draws ({counted}); "
        f"widen the window or use --no-enforce-window"
    )


def choose(
    settings: Search, net: Supernet, board: Board, table: FlopsTable, window: Window, layout: Layout,
    source: data.Source, held_out: data.Source | None, resolution: int, options: Any, device: torch.device,
) -> tuple[Path, list[dict[str, Any]]]:  # fmt: skip
    """(final path, scored candidates): the head of the board, or the best of board or random paths after re-scoring."""
    if settings.method == "cream" and settings.choose == "head":
        return board.entries[0].path, []
    if settings.method == "random":
        count = settings.candidates or settings.pool_size
        drawn = [draw_path(settings, window, table, layout, options.seed, 10**9 + i) for i in range(count)]
        paths = [p for i, p in enumerate(drawn) if p not in drawn[:i]]
    else:
        paths = [entry.path for entry in board.entries]
    bounds = (settings.macs_min, settings.macs_max)
    rows = rescore(
        net, paths, table, source, held_out, settings.select_images, settings.recalibrate_batches,
        scoring_batch(settings, distributed.world_size()), resolution, settings.workers, bounds, device,
    )  # fmt: skip
    return rows[0]["path"], rows


def rescore(
    net: Supernet, paths: list[Path], table: FlopsTable, source: data.Source, held_out: data.Source | None, images: int,
    recalibrate_batches: int, batch_size: int, resolution: int, workers: int, bounds: tuple[float, float],
    device: torch.device,
) -> list[dict[str, Any]]:  # fmt: skip
    """Score paths on held-out images (training images where none were held out), statistics from training images."""
    calibration = calibration_batches(source, recalibrate_batches, batch_size, resolution, device, workers)
    chosen = take(held_out if held_out is not None else source, images, "--select-images")
    test = data.test_batches(chosen, 4 * batch_size * distributed.world_size(), resolution, device, workers)
    return score_paths(net, paths, table, calibration, test, device, bounds)


def calibration_batches(
    source: data.Source, count: int, batch_size: int, resolution: int, device: torch.device, workers: int
) -> list[torch.Tensor]:
    """``count`` batches of plain training images, the same in every process."""
    if not count:
        return []
    first = data.calibration_images(source, count * batch_size)
    plain = data.test_batches(first, batch_size, resolution, device, workers, everywhere=True)
    return [x for x, _ in plain.epoch(0)][:count]


def plan(settings: Search, options: Any) -> list[str]:
    """What the run would do."""
    from papers.cream.planning import plan_lines

    window, layout, _ = space_of(settings)
    check_shares(settings)
    draw_path(settings, window, table_of(settings, window, layout), layout, options.seed, 0)  # raises where none fits
    resolution = resolution_of(settings, window)
    source, _, _ = sources(settings, resolution, options)
    data.check_batch(source, settings.batch_size)
    pace, shares = pace_of(settings, len(source)), data.shares_of(settings)
    typical = [[0], *([3] * count for count in window.sampled), [0]]
    spec = network_spec(typical, len(source.classes), layout, single_block_default=False)
    built = f"supernet: blocks {list(window.sampled)}, window resolution {window.resolution}, trained at {resolution}"
    extra = 1.4 + settings.pool_size * settings.slice * shares / (3 * settings.batch_size)  # teacher, board forwards
    return [
        built,
        *plan_lines(spec, resolution, settings.epochs, len(source), settings.batch_size, shares, extra, 20),
        *pace_lines(settings, pace),
    ]


def pace_lines(settings: Search, pace: Pace) -> list[str]:
    """The learning rate's course and how often the meta layer is updated, for ``--plan``."""
    rate = lambda step: learning_rates(step, pace.total, settings.lr, settings.meta_lr, settings.lr_rule)[0]  # noqa: E731
    final = rate(settings.epochs * pace.iterations - 1)
    lines = [f"rate: from {rate(0):g} to {final:.3g} in the last iteration, 0 after {pace.total:,.0f} iterations"]
    if pace.update_every:
        lines.append(
            f"meta updates: every {pace.update_every} of {pace.iterations} iterations in the epochs after epoch "
            f"{settings.start_epoch} (from 0): {pace.meta_updates(settings):,} in all"
        )
    return lines
