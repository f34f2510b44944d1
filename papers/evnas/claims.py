"""Claims that need no training: rounded sizes, and the best cells of the NAS-Bench-201 tables."""

from __future__ import annotations

from common.data.nasbench201 import Table
from papers.evnas.describe import describe


def millions(name: str, dataset: str, key: str) -> float:
    """A count of a published network in millions, for the rounded figures of the tables."""
    return describe(name, dataset)[key] / 1e6


def optimum(dataset: str, part: str) -> float:
    """Best accuracy in percent of all 15,625 cells after 200 epochs; ``part`` is test or valid."""
    return Table.open().optimum(dataset, part)[1]
