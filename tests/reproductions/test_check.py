"""The check of smoke results: exact values exactly, bands as bands, missing stages named."""

from __future__ import annotations

import importlib
import json
import shlex
from pathlib import Path

import pytest

from common.cli.parsing import parse
from common.settings import plain, result_bearing
from reproductions import check
from reproductions.compare.groups import without_seed
from reproductions.compare.seeds import PIPELINES, commands
from reproductions.results import load


def write(folder: Path, seed: int, error: float, epochs: int = 4, stage: str = "train", name: str = "", **settings):
    out = folder / "smoke" / "evnas" / (name or f"{stage}-{seed}")
    out.mkdir(parents=True)
    result = {"paper": "evnas", "stage": stage, "profile": "smoke", "seed": seed}
    result["settings"] = {"epochs": 4, "arch": f"results/smoke/evnas/search-{seed}/architecture.json", **settings}
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
    settings = expected["stages"]["evnas/train"]["settings"]
    assert settings == {"epochs": 4, "arch": "results/smoke/evnas/search-*/architecture.json"}
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


def test_other_settings_are_an_experiment_and_no_fault(tmp_path, expected, monkeypatch, capsys):
    """``dvc exp run -S evnas.train.epochs=6``: other schedule, other error; what evaluates its weights likewise."""
    monkeypatch.setattr(check, "decide_all", lambda *_: [])
    five = tmp_path / "five"
    for seed in (0, 1):
        weights = f"results/smoke/evnas/train-{seed}/weights.safetensors"
        write(five, seed, 5.0 + seed)
        write(five, seed, 5.0 + seed, stage="evaluate", checkpoint=weights)
    path = tmp_path / "expected.json"
    words = ["--results", str(five), "--expected", str(path)]
    assert check.main([*words, "--regen"]) == 0
    now = tmp_path / "now"
    write(now, 0, 80.0, 6)
    result = now / "smoke" / "evnas" / "train-0" / "result.json"
    content = json.loads(result.read_text())
    content["settings"]["epochs"] = 6
    result.write_text(json.dumps(content))
    write(now, 0, 80.0, stage="evaluate", checkpoint="./results/smoke/evnas/train-0/weights.safetensors")
    capsys.readouterr()
    metrics = tmp_path / "metrics"
    assert check.main(["--results", str(now), "--expected", str(path), "--metrics", str(metrics)]) == 0
    said = capsys.readouterr().out
    assert "not compared: evnas/train-0: epochs 6 instead of 4" in said
    assert "not compared: evnas/evaluate-0: made with results/smoke/evnas/train-0/weights.safetensors" in said
    shown = json.loads((metrics / "evnas.json").read_text())  # what dvc exp show compares
    assert shown["test_error_percent"] == 80.0 and set(shown) <= set(check.SUMMARY)


def test_a_run_outside_the_pipeline_is_not_compared(tmp_path, expected, monkeypatch, capsys):
    monkeypatch.setattr(check, "decide_all", lambda *_: [])
    path = tmp_path / "expected.json"
    path.write_text(json.dumps(expected))
    words = ["--results", str(tmp_path), "--expected", str(path), "--metrics", str(tmp_path / "metrics")]
    write(tmp_path, 0, 65.2, epochs=1, name="train-seed0")
    assert check.main(words) == 1  # the pipeline's own result is absent
    assert "FAIL evnas/train: no result" in capsys.readouterr().out
    write(tmp_path, 0, 5.6)
    assert check.main(words) == 0
    assert "not compared: evnas/train-seed0" in capsys.readouterr().out
    assert json.loads((tmp_path / "metrics" / "evnas.json").read_text())["test_error_percent"] == 5.6


def test_expectations_of_one_paper_leave_the_others(tmp_path):
    write(tmp_path, 0, 5.0)
    path = tmp_path / "expected.json"
    path.write_text(json.dumps({"stages": {"nsas/train": {"metrics": {}}, "evnas/old": {"metrics": {}}}}))
    assert check.main(["--results", str(tmp_path), "--expected", str(path), "--regen", "--paper", "evnas"]) == 0
    assert set(json.loads(path.read_text())["stages"]) == {"nsas/train", "evnas/train"}


@pytest.mark.parametrize("line", commands(PIPELINES["smoke"], 0), ids=lambda line: line.split(" --")[0][10:])
def test_expectations_were_made_with_the_settings_of_the_pipeline(line):
    """Else the smoke pipeline would compare nothing: after a change of its settings write them anew."""
    words = shlex.split(line)[2:]
    paper = words[0].removeprefix("papers.")
    _, settings, options = parse(paper, importlib.import_module(f"{words[0]}.__main__").VERBS, words[1:])
    now = {name: without_seed(value, 0) for name, value in plain(result_bearing(settings)).items()}
    made = check.read_expectations(check.EXPECTED)["stages"][f"{paper}/{options.section}"]["settings"]
    assert made
    assert {n: (v, now[n]) for n, v in made.items() if n in now and v != now[n]} == {}, "run: check --regen"
