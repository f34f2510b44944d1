"""Accuracies of cells in the NAS-Bench-201 tables: the ``lookup`` verb, and what a search says of its cells (trained
for 200 epochs, mean over the trials).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.data.nasbench201 import DATASETS, Table, looked_up, to_operations
from common.data.pins import data_root
from common.run.folder import say
from common.spaces.nasbench201.graph import connected
from common.spaces.nasbench201.lookup import lookup as look_up
from papers.evnas.networks.architectures import PUBLISHED

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions
    from common.spaces.nasbench201.settings import Lookup as Asked


def lookup(settings: Asked, options: RunOptions) -> dict[str, Any]:
    """What the tables say of cells. Raises UserError."""
    return look_up(settings.cells, "evnas", PUBLISHED, options)


class Lookup:
    """The tables, or nothing: in the DARTS space, and where the file is absent (reported; it does not fail a search).

    A cell found on a data set that the benchmark lacks is looked up on CIFAR-10, which is reported as a transfer and
    never among the search's own metrics.
    """

    def __init__(self, space: str, dataset: str, options: RunOptions) -> None:
        self.applies = space == "nb201"
        self.transfer = dataset not in DATASETS
        self.dataset = looked_up(dataset)
        self.table: Table | None = None
        if self.applies:
            if (data_root(options) / "nasbench201" / "nasbench201_tables.npz").exists():
                self.table = Table.open(options)
            else:
                say("the NAS-Bench-201 tables are absent: cells are not looked up")
        self.pins = self.table.pins if self.table else {}

    def accuracies(self, cell: str) -> tuple[float | None, float | None]:
        """(test, validation) accuracy in percent."""
        if self.table is None:
            return None, None
        return tuple(self.table.lookup(cell, self.dataset, part) for part in ("test", "valid"))  # type: ignore

    def columns(self, cell: str) -> dict[str, Any]:
        """For a row of the history."""
        if not self.applies or self.transfer:
            return {}
        return dict(zip(("table_test", "table_valid"), self.accuracies(cell), strict=True))

    def metrics(self, cell: str) -> dict[str, Any]:
        """For the result: nothing of another data set than the search's."""
        return {} if self.transfer else self._numbers(cell)

    def _numbers(self, cell: str) -> dict[str, Any]:
        if self.table is None:
            return {}
        test, valid = self.accuracies(cell)
        rank = self.table.rank(cell, self.dataset, "test")
        return {"test_accuracy_percent": test, "valid_accuracy_percent": valid, "rank_among_15625": rank}

    def report(self, cell: str, trajectory: list[str]) -> dict[str, Any]:
        """Whether the cell's output depends on its input, where the accuracies come from, and those of every
        generation's best cell (entry 0: the supernet's own random alphas).
        """
        if not self.applies:
            return {}
        found = {"connected": connected(to_operations(cell))}
        if self.table is None:
            return {**found, "lookup": "NAS-Bench-201 tables absent: no accuracy looked up"}
        if self.transfer:
            return {**found, "lookup": f"{self.dataset} after 200 epochs (transfer)", "transfer": self._numbers(cell)}
        accuracies = [list(self.accuracies(cell)) for cell in trajectory]
        return {
            **found,
            "lookup": f"{self.dataset} after 200 epochs (same data set)",
            "trajectory_test_valid": accuracies,
        }
