"""The check of smoke results: exact values exactly, bands as bands, missing stages named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reproductions import check
from reproductions.results import load


def write(folder: Path, seed: int, error: float, epochs: int = 4, stage: str = "train") -> None:
    out = folder / "smoke" / "evnas" / f"{stage}-{seed}"
    out.mkdir(parents=True)
    result = {"paper": "evnas", "stage": stage, "profile": "smoke", "seed": seed}
    result["metrics"] = {"top1_error_percent": error, "epochs": epochs, "parameters": 1000 + seed}
    (out / "result.json").write_text(json.dumps(result))
    rows = "".join(f"{e},{0.1 / (e + 1)!r},{error + e}\n" for e in range(epochs))
    (out / "history.csv").write_text("epoch,lr,loss\n" + rows)


@pytest.fixture
def expected(tmp_path_factory):
    five = tmp_path_factory.mktemp("five")
    for seed, error in enumerate((5.0, 6.0, 5.5, 5.2, 6.1)):
        write(five, seed, error)
    found = check.expectations(load(five))
    found.pop("computed_claims")
    return found


def test_expectations(expected):
    metrics = expected["stages"]["evnas/train"]["metrics"]
    assert metrics["epochs"] == {"exact": 4}
    assert metrics["parameters"] == {"min": 1}
    band = metrics["top1_error_percent"]
    assert band["min"] < 5 < 6.1 < band["max"] <= 20
    schedules = expected["stages"]["evnas/train"]["schedules"]
    assert schedules == {"epoch": ["0", "1", "2", "3"], "lr": [repr(0.1 / (e + 1)) for e in range(4)]}


@pytest.mark.parametrize(("error", "epochs", "faults"), [(5.6, 4, 0), (25.0, 4, 1), (5.6, 5, 3)])
def test_compare(tmp_path, expected, error, epochs, faults):
    write(tmp_path, 0, error, epochs)
    found, checked = check.compare(load(tmp_path), expected)
    assert (len(found), checked) == (faults, 5)


def test_absent_stage_is_a_fault(tmp_path, expected):
    found, _ = check.compare(load(tmp_path), expected)
    assert found == ["evnas/train: no result; run: dvc repro dvc.yaml"]


@pytest.mark.parametrize(("value", "faults"), [("0.05", 0), ("0.0500000000000001", 0), ("0.0501", 1), ("", 1)])
def test_a_schedule_is_compared_row_by_row(tmp_path, expected, value, faults):
    write(tmp_path, 0, 5.6)
    history = tmp_path / "smoke" / "evnas" / "train-0" / "history.csv"
    history.write_text(history.read_text().replace("1,0.05,", f"1,{value},"))
    found, _ = check.compare(load(tmp_path), expected)
    assert len(found) == faults
    assert all("column lr" in fault for fault in found)
