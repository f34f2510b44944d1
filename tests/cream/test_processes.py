"""Two gloo processes compute what one with two parts does, and go on in the same way after a stop."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from common.weights.read import load_tensors
from papers.cream.select import select
from papers.cream.settings import Evaluate, Select
from tests.cream.tools import PATH, SCORED, SEARCH, TRAIN, options, weights


def test_a_search_in_two_processes_equals_one_with_two_parts(searched, tmp_path, in_two_processes):
    folder, result = searched
    tmp_path = tmp_path / "run"
    shared = replace(SEARCH, parts=0, choose="rescore", **SCORED)  # shares as many as there are processes
    in_two_processes("search", shared, tmp_path, 3, stop=7)
    for name in ("result.json", "history.csv", "supernet.safetensors"):  # stopped and resumed in two processes
        assert (tmp_path / name).read_bytes() == (tmp_path.with_name("run-resumed") / name).read_bytes(), name
    other = json.loads((tmp_path / "result.json").read_text())
    assert other["processes"] == 2 and other["metrics"]["meta_updates"] == 1
    assert [row["path"] for row in other["board"]] == [row["path"] for row in result["board"]]
    assert [row["score"] for row in other["board"]] == pytest.approx([row["score"] for row in result["board"]])
    counts = ("iterations", "distilled", "meta_updates", "admitted", "board_size")
    assert [other["metrics"][name] for name in counts] == [result["metrics"][name] for name in counts]
    for each in (folder, tmp_path):  # statistics of paths come from batches of a share's size, in both
        again = select(Select(search=str(each), **SCORED), options(tmp_path / f"{each.name}-s", "select"))
        for row, scored in zip(again["scored"], other["scored"], strict=True):
            assert row["path"] == scored["path"] and row["loss"] == pytest.approx(scored["loss"], rel=1e-3)
    for mine, its in zip(*(list(csv.DictReader((f / "history.csv").open())) for f in (folder, tmp_path)), strict=True):
        # the loss holds m and the teacher's probabilities; the tested error the running statistics
        for column in ("loss", "train_top1_percent", "board_best", "random_path_top1_error_percent"):
            assert float(its[column] or 0) == pytest.approx(float(mine[column] or 0), rel=1e-4)
    ours, theirs = weights(folder), weights(tmp_path)
    for name, value in ours.items():
        assert np.allclose(value, theirs[name], atol=2e-5, rtol=1e-4), name  # running statistics among them


def test_a_training_in_two_processes_equals_one_with_two_parts(trained, tmp_path, in_two_processes):
    """Dropout on; weights, running statistics and tested errors of both; then stopped inside an epoch and resumed."""
    folder, result = trained
    tmp_path = tmp_path / "run"
    in_two_processes("train", TRAIN, tmp_path, 3, stop=4)
    for name in ("result.json", "history.csv", "weights.safetensors", "weights_raw.safetensors"):
        assert (tmp_path / name).read_bytes() == (tmp_path.with_name("run-resumed") / name).read_bytes(), name
    other = json.loads((tmp_path / "result.json").read_text())
    assert TRAIN.dropout and other["processes"] == 2
    assert other["metrics"] == pytest.approx(result["metrics"], rel=1e-4)
    for file in ("weights.safetensors", "weights_raw.safetensors"):
        ours, theirs = load_tensors(folder / file), load_tensors(tmp_path / file)
        for name, value in ours.items():
            assert np.allclose(value, theirs[name], atol=2e-5, rtol=1e-4), name  # running statistics among them


def test_evaluation_in_two_processes(trained, tmp_path, in_two_processes):
    folder, result = trained
    settings = Evaluate(arch=PATH, checkpoint=str(folder / "weights.safetensors"), dataset="digits",
                                resolution=32, batch_size=16)  # fmt: skip
    in_two_processes("evaluate", settings, tmp_path, 3)
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["processes"] == 2 and written["metrics"]["images"] == 40  # none twice, none left out
    for name in ("top1_error_percent", "top5_error_percent"):
        assert written["metrics"][name] == pytest.approx(result["metrics"][name])
    assert written["metrics"]["loss"] == pytest.approx(result["metrics"]["loss"], abs=1e-4)
