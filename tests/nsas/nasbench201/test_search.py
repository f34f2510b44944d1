"""The searches on NAS-Bench-201: every constraint runs, in both methods; tables are asked about their own sets."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from common.data.nasbench201 import OPERATIONS, to_operations
from papers.nsas.__main__ import SEARCH
from tests.nsas.small import NB201_GDAS, NB201_RANDOM, module_of, options


@pytest.mark.parametrize("method", ["random", "gdas"])
@pytest.mark.parametrize("constraint", ["nsas", "r", "g", "compensation", "low", "none"])
def test_nb201_constraints(method, constraint, tmp_path):
    settings = NB201_RANDOM if method == "random" else NB201_GDAS
    overrides = SEARCH[("nb201", method)].variants["paper"] if constraint in ("nsas", "g") else {}
    settings = replace(settings, constraint=constraint, epochs=1, train_images=120, **overrides)
    if method == "random":
        settings = replace(settings, recalibrate_batches=min(settings.recalibrate_batches, 1))
    result = module_of(f"nasbench201.search_{method}:search")[1](settings, options(tmp_path))
    assert result["architecture"].count("|") == 9 or result["architecture"].count("~") == 6
    with (tmp_path / ("candidates.csv" if method == "random" else "alphas.csv")).open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    if method == "random":  # the scored cells, of which the best is the answer
        chosen = max(rows, key=lambda row: float(row["supernet_accuracy_percent"]))
        assert len(rows) == settings.select_candidates
        assert "c" + "".join(map(str, to_operations(result["architecture"]))) == chosen["cell"]
    else:  # the table, of which the answer is the largest entry an edge
        assert [row.pop("edge") for row in rows] == ["1<-0", "2<-0", "2<-1", "3<-0", "3<-1", "3<-2"]
        largest = [max(row, key=lambda name: float(row[name])) for row in rows]
        assert [OPERATIONS[k] for k in to_operations(result["architecture"])] == largest


def test_searches_on_digits_report_no_table_value(tmp_path):
    result = module_of("nasbench201.search_gdas:search")[1](
        replace(NB201_GDAS, epochs=1), options(tmp_path, "search_nb201")
    )
    assert set(result["metrics"]) == {"supernet_accuracy_percent"} and "no accuracies on digits" in result["note"]
