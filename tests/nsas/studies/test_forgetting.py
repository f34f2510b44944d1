"""The experiment: every form runs, forms are paired by seed, one command shows both losses side by side."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest

from papers.nsas.studies.settings import Experiment
from tests.nsas.small import EXPERIMENT, module_of, options


@pytest.mark.parametrize("loss, constraints", [("paper", 2), ("authors", 2), ("paper", 0)])
def test_experiment(loss, constraints, tmp_path):
    settings = replace(EXPERIMENT, loss=loss, constraints=constraints)
    result = module_of("studies.forgetting:experiment")[1](settings, options(tmp_path, "experiments"))
    assert {"forgetting_points", "chosen_supernet_accuracy_percent"} <= set(result["metrics"])
    assert json.loads((tmp_path / "result.json").read_text())["metrics"] == result["metrics"]
    for name in ("figure.svg", "paragraph.txt", "forgetting.csv", "cells.csv", "cost.csv"):
        assert (tmp_path / name).stat().st_size > 0, name


def test_one_command_shows_the_difference_of_the_losses(tmp_path):
    """Both forms side by side equal the two single runs; another summary does not count the pair twice."""
    run = module_of("studies.forgetting:experiment")[1]
    pair = run(replace(EXPERIMENT, loss="both"), options(tmp_path / "pair", "experiments"))["metrics"]
    for loss in ("authors", "paper"):
        alone = run(replace(EXPERIMENT, loss=loss), options(tmp_path / loss, "experiments"))["metrics"]
        assert {key: pair[f"{key}_{loss}"] for key in alone} == alone
    assert pair["mean_supernet_accuracy_percent_difference"] == pytest.approx(
        pair["mean_supernet_accuracy_percent_paper"] - pair["mean_supernet_accuracy_percent_authors"]
    )
    text = [(tmp_path / "pair" / loss / "history.csv").read_text() for loss in ("authors", "paper")]
    assert text[0] != text[1]
    joined = run(Experiment(summarise=str(tmp_path / "pair")), options(tmp_path / "study", "experiments"))
    assert joined["metrics"]["runs"] == 2


def test_forms_of_the_experiment_are_paired(tmp_path):
    """With equal seeds every form sees the same batches and architectures; so the authors' loss, whose constraints have
    no gradient, gives the same supernet for every M.
    """
    found = {}
    for constraints in (2, 3):
        settings = Experiment(
            dataset="digits", train_images=120, loss="authors", constraints=constraints, channels=2, cells=1, epochs=2,
            batch_size=30, probe_every=1, probe_images=8, rank_cells=3, rank_images=50, recalibrate_batches=1,
        )  # fmt: skip
        folder = tmp_path / str(constraints)
        module_of("studies.forgetting:experiment")[1](settings, options(folder, "experiments"))
        found[constraints] = [(folder / f"{name}.csv").read_text() for name in ("forgetting", "cells")]
    assert found[2] == found[3]


def test_tau_of_equal_scores_is_undefined_and_no_failure(tmp_path, monkeypatch):
    module, run = module_of("studies.forgetting:experiment")
    monkeypatch.setattr(module, "score", lambda *_: 10.0)
    monkeypatch.setattr(module, "table_accuracies", lambda *_: [90.0, 91.0, 92.0])
    result = run(EXPERIMENT, options(tmp_path, "experiments"))
    assert "tau" not in result["metrics"] and "tau is undefined" in result["paragraph"]
    assert result["metrics"]["chosen_test_accuracy_percent"] == 90.0


def test_rankings_on_the_way_change_nothing_and_end_where_the_run_ends(tmp_path):
    """--rank-every: ranks.csv holds every cell at its epochs; training and results are those of a run without it."""
    run = module_of("studies.forgetting:experiment")[1]
    settings = replace(EXPERIMENT, epochs=3, rank_cells=4)
    without = run(settings, options(tmp_path / "without", "experiments"))
    ranked = run(replace(settings, rank_every=3), options(tmp_path / "every3", "experiments"))
    each = run(replace(settings, rank_every=1), options(tmp_path / "every1", "experiments"))
    assert without["metrics"] == ranked["metrics"] == each["metrics"]
    rows, last = rows_of(tmp_path / "every1" / "ranks.csv"), rows_of(tmp_path / "every3" / "ranks.csv")
    assert [r["epoch"] for r in rows] == ["0"] * 4 + ["1"] * 4 + ["2"] * 4
    assert rows[8:] == last  # renewing in between leaves the values of the training alone
    final = [row["supernet_percent"] for row in rows_of(tmp_path / "every1" / "cells.csv")]
    assert [row["renewed_percent"] for row in last] == final
    assert any(row["renewed_percent"] != row["as_trained_percent"] for row in rows)


def test_no_batches_to_renew_leaves_batch_norm_alone(tmp_path):
    """--recalibrate-batches 0: a cell is scored with the values of the training, not with those of a new network."""
    run = module_of("studies.forgetting:experiment")[1]
    run(replace(EXPERIMENT, epochs=3, rank_every=3, rank_cells=6), options(tmp_path / "renewed", "experiments"))
    run(replace(EXPERIMENT, epochs=3, rank_cells=6, recalibrate_batches=0), options(tmp_path / "not", "experiments"))
    plain = [row["supernet_percent"] for row in rows_of(tmp_path / "not" / "cells.csv")]
    assert plain == [row["as_trained_percent"] for row in rows_of(tmp_path / "renewed" / "ranks.csv")]


def rows_of(path):
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))
