"""Training and testing a cell of NAS-Bench-201 by the benchmark's own recipe (Dong & Yang 2020, table 1):

    for epoch e = 0 … E - 1:                          E = 200, or 12 in the short form
        learning rate 0.05 (1 + cos(pi e / E))
        for each batch of 256: flip, crop, normalise; a step of Nesterov SGD down the cross-entropy
    the last epoch's weights are kept

The network has C = 16 channels and N = 5 cells a stage. The result stands beside what the tables say of the cell.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn.functional import cross_entropy

from common.data.nasbench201 import DATASETS, Table, release_1_0
from common.errors import UserError
from common.run import seeds
from common.run.device import pick_device
from common.run.folder import Run, open_run, say
from common.spaces.counting import parameters
from common.spaces.nasbench201.cell import Cell201
from common.spaces.nasbench201.data import (
    CellData,
    constants,
    held_out,
    open_cell_data,
    testing_batches,
    training_batches,
)
from common.spaces.nasbench201.graph import connected
from common.spaces.nasbench201.lookup import cells_of
from common.spaces.nasbench201.network import Network
from common.spaces.nasbench201.settings import TrainCell
from common.train.compiling import compile_whole
from common.train.loop import Metrics, auxiliary_loss, evaluate, read, train_step
from common.train.losses import TopK
from common.train.schedules import cosine
from common.weights.read import Checkpoint, load_strict, save_weights

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

SPACE = "nasbench201"
FREE = frozenset({"arch", "dataset", "split", "epochs", "parts", "eval_batch_size", "eval_every"})  # not of the recipe


class Begins(Protocol):
    """Weights that a network starts from."""

    def into(self, model: torch.nn.Module, classes: Sequence[str], dataset: str) -> dict[str, Any]:
        """Load them, and what result.json says of it."""


def train_cell(settings: TrainCell, options: RunOptions, cell: Cell201, start: Begins | None = None) -> dict[str, Any]:
    """The ``train --space nb201`` verb of a paper; from weights where they are given. Raises UserError."""
    device = pick_device(options)
    data = open_cell_data(settings, options)
    with open_run(options, settings, data=data.pins) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        network = Network(cell.operations, settings.channels, settings.cells_per_stage, len(data.train.classes))
        origin = {"started_from": start.into(network, data.train.classes, settings.dataset)} if start else {}
        network = network.to(device)
        compile_whole(network, options)
        optimizer = torch.optim.SGD(
            network.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay,
            nesterov=settings.nesterov, fused=True,
        )  # fmt: skip
        batches, counter = training_batches(settings, data, options.seed, device), TopK(device)
        about = about_cell(cell, settings, data, options)
        run.tells(about, raw="network")
        run.keeps(network=network, optimizer=optimizer, counter=counter)
        tested: dict[str, Metrics] = {}
        loss_of = auxiliary_loss(cross_entropy, 0.0)  # there is no second classifier
        for epoch in run.epochs(settings.epochs):
            network.train()
            optimizer.param_groups[0]["lr"] = lr = cosine(settings.lr, 0.0, epoch, settings.epochs)
            for step, shares in run.steps(batches.in_shares(), epoch):
                train_step(network, shares, optimizer, loss_of, precision=options.precision, counter=counter, step=step)
            trained = read(counter)
            due = (epoch + 1) % settings.eval_every == 0 or epoch + 1 == settings.epochs
            tested = tests(run, network, data.held, settings.eval_batch_size) if due else {}
            said: dict[str, Any] = {
                f"{part}_top1_error_percent": tested[part].top1_error if due else None for part in data.held
            }
            run.log(
                epoch=epoch, lr=lr, train_loss=trained.loss, train_top1_error_percent=trained.top1_error, **said
            )  # fmt: skip
        tested = tested or tests(run, network, data.held, settings.eval_batch_size)
        if run.writes:
            save_weights(network, run.folder / "weights.safetensors", about)
        beside = in_tables(cell, settings, options)
        metrics = {**errors(tested), "parameters": parameters(network)}
        metrics |= {f"table_{part}": value for part, value in beside.get("accuracies", {}).items()}
        return run.finish({"metrics": metrics, "architecture": str(cell), "tables": beside, **origin})


def cell_of(arch: str, options: RunOptions, published: Mapping[str, Any]) -> Cell201:
    """The cell that a user means. Raises UserError."""
    if not arch:
        raise UserError("no cell given; add --arch '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|', six digits, or a file")
    cells = set(cells_of([arch], options.paper, published, options).values())
    if len(cells) != 1:
        raise UserError(f"{arch} holds {len(cells)} cells; give one")
    (cell,) = cells
    if not connected(cell.operations):
        say(f"note: no path leads from the input of {cell} to its output: its logits do not see the image")
    return cell


def about_cell(cell: Cell201, settings: TrainCell, data: CellData, options: RunOptions) -> dict[str, Any]:
    """What the weights are of."""
    classes = data.train.classes
    mean, std = constants(data.train.name)
    return {
        "mean": list(mean), "std": list(std),
        "architecture": str(cell), "space": SPACE, "dataset": settings.dataset, "split": settings.split,
        "classes": len(classes), "class_names": list(classes), "pixels": data.train.size, "width": settings.channels,
        "depth": settings.cells_per_stage, "stage": options.section, "paper": options.paper,
    }  # fmt: skip


def tests(run: Run, network: Network, held: Mapping[str, Any], batch_size: int) -> dict[str, Metrics]:
    """Loss and errors on every part that is held out."""
    device = next(network.parameters()).device
    return {
        part: evaluate(
            network, run.shows(testing_batches(images, batch_size, run.options.seed, device), part), device,
            run.options.precision,
        )
        for part, images in held.items()
    }  # fmt: skip


def errors(tested: Mapping[str, Metrics]) -> dict[str, Any]:
    """Under the names that results use: those of the test part plain, of the validation part with ``valid_``; and the
    accuracies, as the benchmark counts.
    """
    found: dict[str, Any] = {}
    for part, metrics in tested.items():
        prefix = "" if part == "test" else f"{part}_"
        found |= {f"{prefix}{name}": value for name, value in metrics.as_dict().items()}
        found[f"{prefix}accuracy_percent"] = 100.0 - metrics.top1_error
    return found


def in_tables(cell: Cell201, settings: TrainCell, options: RunOptions) -> dict[str, Any]:
    """What the tables say of the cell on this set after as many epochs, and whether it is of this very recipe.

    ``accuracies``: in percent, by part (``test_v1_0``: in the first release); absent where the tables lack them.
    ``note``: what differs.
    """
    dataset = settings.dataset
    if dataset not in DATASETS:
        return {"note": f"NAS-Bench-201 has no accuracies on {dataset}"}
    if settings.epochs not in (12, 200):
        return {"note": f"the tables have accuracies after 12 and 200 epochs, not after {settings.epochs}"}
    usual = {f.name: f.default for f in dataclasses.fields(TrainCell)}
    other = [name for name in usual if name not in FREE and getattr(settings, name) != usual[name]]
    halves = settings.split == "halves"
    parts = ("valid",) if halves else ("test",) if dataset == "cifar10" else ("valid", "test")
    found: dict[str, float] = {}
    try:
        table = Table.open(options)
    except UserError:
        return {"note": "NAS-Bench-201 tables absent: no accuracy looked up"}
    for part in parts:
        try:
            found[part] = table.lookup(cell.operations, dataset, part, settings.epochs)
        except UserError:
            continue
    if dataset == "cifar10" and settings.epochs == 200 and not halves:
        with contextlib.suppress(UserError):
            found["test_v1_0"] = release_1_0(options)[cell.digits]
    note = f"not the benchmark's recipe: --{', --'.join(o.replace('_', '-') for o in other)}" if other else ""
    return {"accuracies": found, "same_recipe": not other, **({"note": note} if note else {})}


def is_cell(found: Checkpoint) -> bool:
    """Whether weights are of a cell of NAS-Bench-201."""
    return found.metadata.get("space") == SPACE


def evaluate_cell(settings: Any, options: RunOptions, found: Checkpoint) -> dict[str, Any]:
    """The ``evaluate`` verb for weights that ``train_cell`` wrote, on the parts that the training was tested on.

    settings: a paper's Evaluate, of which checkpoint, dataset and batch_size count here. Raises UserError.
    """
    own, said = str(found.metadata["dataset"]), options.given is None or "dataset" in options.given
    dataset = settings.dataset if said else own
    device, cell = pick_device(options), cells_of([found.metadata["architecture"]], options.paper, {}, options)
    asked = TrainCell(dataset=dataset, split=found.metadata.get("split", "whole") if dataset == own else "whole")
    held = open_cell_data(asked, options).held if asked.split == "halves" else held_out(dataset, options)
    classes = found.metadata["class_names"]
    if list(held["test"].classes) != list(classes):
        raise UserError(f"{found.source} tells {len(classes)} classes of {own} apart, {dataset} has others; leave "
                        f"--dataset out to test it on its own set")  # fmt: skip
    with open_run(options, settings, data=held["test"], tested_on=dataset, **found.identity) as run:
        if run.result is not None:
            return run.result
        width, depth = int(found.metadata["width"]), int(found.metadata["depth"])
        (one,) = cell.values()
        network = Network(one.operations, width, depth, len(classes))
        load_strict(network, found.tensors, (), source=found.source)
        compile_whole(network, options)
        tested = tests(run, network.to(device), held, settings.batch_size or 256)
        metrics = {**errors(tested), "images": tested["test"].images, "parameters": parameters(network)}
        return run.finish({"metrics": metrics, "architecture": str(one), "weights": found.weights, **found.stand})
