"""Cells of NAS-Bench-201: the end of a search, what the benchmark's tables say, training by the benchmark's recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from common.data.nasbench201 import DATASETS, Table, release_1_0, to_string
from common.errors import UserError
from common.spaces.architecture import save_architecture
from common.spaces.nasbench201.graph import connected
from common.spaces.nasbench201.lookup import lookup as look_up
from common.spaces.nasbench201.train import train_cell
from common.use.nasbench201 import cell_start
from papers.nsas.nasbench201.constraints import Code

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions
    from common.run.folder import Run
    from common.spaces.nasbench201.settings import Lookup, TrainCell


def lookup(settings: Lookup, options: RunOptions) -> dict[str, Any]:
    """What the benchmark's tables say of cells. Raises UserError."""
    from papers.nsas.use import PUBLISHED

    return look_up(settings.cells, "nsas", PUBLISHED, options)


def train(settings: TrainCell, options: RunOptions) -> dict[str, Any]:
    """A cell by the benchmark's own recipe, beside what its tables say. Raises UserError."""
    from papers.nsas.use import PUBLISHED

    settings, cell, start = cell_start(settings, options, PUBLISHED)
    return train_cell(settings, options, cell, start)


def finish(
    run: Run, code: Code, metrics: dict[str, Any], options: RunOptions, note: str, dataset: str, **more: Any
) -> dict[str, Any]:
    """Write the cell and, for a set of the tables where they are at hand, its accuracy there after 200 epochs.

    A cell found on another set is looked up nowhere: CIFAR-10's value would not be this run's result. more: stands in
    the result, too.
    """
    text = to_string(code)
    if dataset in DATASETS:
        try:
            table = Table.open(options)
            metrics["test_accuracy_percent"] = table.lookup(code, dataset, "test")
            metrics["rank_among_15625"] = table.rank(code, dataset, "test")
        except UserError:
            note += "; NAS-Bench-201 tables absent, no accuracy looked up"
        if dataset == "cifar10":  # the published results are looked up in release 1.0, the tables hold 1.1
            with contextlib.suppress(UserError):
                metrics["test_accuracy_v1_0_percent"] = release_1_0(options)["".join(map(str, code))]
    else:
        note += f"; NAS-Bench-201 has no accuracies on {dataset}"
    if run.writes:
        save_architecture(run.folder / "architecture.json", "nasbench201", text, {**run.origin, "dataset": dataset})
    if not connected(code):
        note += "; no path leads from the cell's input to its output"
    return run.finish({"metrics": metrics, "architecture": text, "note": note, **more})


def table_accuracies(codes: Sequence[Code], dataset: str, options: RunOptions) -> list[float] | None:
    """Test accuracies in percent after 200 epochs; None where the tables are absent or have none on this set."""
    if dataset not in DATASETS:
        return None
    try:
        table = Table.open(options)
    except UserError:
        return None
    return [table.lookup(code, dataset, "test") for code in codes]


def short(code: Code) -> str:
    """A cell in a column of a table: "c" and its six operation numbers."""
    return "c" + "".join(map(str, code))
