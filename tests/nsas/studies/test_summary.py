"""The summary of the experiment's runs."""

from __future__ import annotations

import csv

import pytest

from common.errors import UserError
from papers.nsas.studies.settings import Experiment
from tests.nsas.small import fake_experiments, module_of, options


def test_summary_of_experiments(tmp_path):
    """Seeds 0 and 1 differ a lot, the paired differences (4.0 and 4.2) hardly: the interval is that of the pairs."""
    run = module_of("studies.forgetting:experiment")[1]
    runs = [("authors", 0, 0, 1.0), ("authors", 0, 1, 31.0), ("paper", 4, 0, 5.0), ("paper", 4, 1, 35.2)]
    runs += [("authors", constraints, seed, value) for constraints in (4, 8) for seed, value in ((0, 7.0), (1, 30.0))]
    fake_experiments(tmp_path / "runs", runs, epochs=3)
    settings = Experiment(summarise=str(tmp_path / "runs"))
    result = run(settings, options(tmp_path / "study", "experiments"))
    assert result["metrics"]["runs"] == 8
    assert len((tmp_path / "study" / "study.csv").read_text().splitlines()) == 9
    with (tmp_path / "study" / "contrasts.csv").open() as lines:
        rows = {row["contrast"]: row for row in csv.DictReader(lines) if row["measure"] == "forgetting_points"}
    gap = rows["paper, M = 4 minus RandomNAS"]
    half = 12.706204736 * 0.1  # Student's t at 0.975 with one degree of freedom, standard error 0.1
    assert [float(gap[k]) for k in ("mean", "low", "high")] == pytest.approx([4.1, 4.1 - half, 4.1 + half])
    assert "paper, M = 4 minus authors, M = 4" in rows
    text = (tmp_path / "study" / "paragraph.txt").read_text()
    assert "paper, M = 4 minus RandomNAS +4.100" in text and "epochs 3" in text and "seed by seed" in text
    for name in ("figure.svg", "figure.png", "costs.csv"):
        assert (tmp_path / "study" / name).exists(), name
    with pytest.raises(UserError, match="no finished experiments"):
        run(Experiment(summarise=str(tmp_path / "nothing")), options(tmp_path / "x", "experiments"))


def test_a_summary_refuses_two_scales(tmp_path):
    fake_experiments(tmp_path / "runs" / "a", [("paper", 2, 0, 1.0)], epochs=3)
    fake_experiments(tmp_path / "runs" / "b", [("paper", 4, 0, 1.0)], epochs=4)
    with pytest.raises(UserError, match="other settings"):
        module_of("studies.forgetting:experiment")[1](
            Experiment(summarise=str(tmp_path / "runs")), options(tmp_path / "x", "experiments")
        )
