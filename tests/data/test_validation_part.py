"""A folder with train, val and test: the epochs of a training are judged on val, what it chose is tested on test."""

from __future__ import annotations

import csv
import importlib
import json

import numpy as np
import pytest
from PIL import Image

from common.cli import verbs as cli

COUNTS = {"train": 40, "val": 7, "test": 11}  # pictures of each of two classes: errors are multiples of 1/14 and 1/22
COMMANDS = {
    "cream": ("--arch", "14"),
    "evnas": ("--arch", "EvNASA", "--batch-size", "20"),
    "nao_v2": ("--arch", "NAONet_V2", "--batch-size", "20"),
    "nsas": ("--arch", "Random_NSAS", "--batch-size", "20"),
    "sgnas": ("--arch", "SGNAS-A", "--batch-size", "20"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("sets") / "own", np.random.default_rng(0)
    for part, count in COUNTS.items():
        for name in ("ant", "bee"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i:02d}.bmp")
    return root


def is_share(percent, images):
    return abs(percent * images / 100 - round(percent * images / 100)) < 1e-3


@pytest.mark.parametrize("paper", COMMANDS)
def test_the_epoch_is_chosen_by_val_and_reported_on_test(folder, tmp_path, paper):
    verbs = importlib.import_module(f"papers.{paper}.__main__").VERBS
    words = ["train", *COMMANDS[paper], "--epochs", "1", "--dataset", f"{folder}@32", "--device", "cpu"]
    cli.main(paper, verbs, [*words, "--out", str(tmp_path / "run")])
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert {"own/train", "own/val", "own/test"} <= set(str(result).replace("'", " ").split())
    metrics = result["metrics"]
    assert is_share(metrics["valid_top1_error_percent"], 14) and is_share(metrics["top1_error_percent"], 22)
    with (tmp_path / "run" / "history.csv").open() as rows:
        row = list(csv.DictReader(rows))[-1]
    assert is_share(float(row["valid_top1_error_percent"]), 14) and "test_top1_error_percent" not in row
