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


@pytest.mark.parametrize(("error", "epochs", "faults"), [(5.6, 4, 0), (25.0, 4, 1), (5.6, 5, 1)])
def test_compare(tmp_path, expected, error, epochs, faults):
    write(tmp_path, 0, error, epochs)
    found, checked = check.compare(load(tmp_path), expected)
    assert (len(found), checked) == (faults, 3)


def test_absent_stage_is_a_fault(tmp_path, expected):
    found, _ = check.compare(load(tmp_path), expected)
    assert found == ["evnas/train: no result; run: dvc repro dvc.yaml"]
