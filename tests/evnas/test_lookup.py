"""Cells in the NAS-Bench-201 tables."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from papers.evnas.lookup import Lookup
from tests.evnas.small import options


def test_what_a_cell_reaches_elsewhere_is_no_result_of_the_search():
    """Cells found on the digits are looked up on CIFAR-10, as a transfer, not among the metrics."""
    table = SimpleNamespace(lookup=lambda *_: 90.0, rank=lambda *_: 7, pins={})
    cell = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    for dataset, own in (("digits", False), ("cifar100", True)):
        lookup = Lookup("darts", dataset, options(Path("nowhere")))
        lookup.applies, lookup.table = True, table
        assert bool(lookup.metrics(cell)) == bool(lookup.columns(cell)) == own
        report = lookup.report(cell, [cell])
        assert ("transfer" in report) != own and ("trajectory_test_valid" in report) == own
