"""ImageNet training on a tree of class folders: two gloo processes equal one that takes the same two parts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from common import seeds
from common.data.folder import open_pictures
from common.losses import label_smoothing_cross_entropy
from common.records import read_json
from papers.nao_v2 import datasets
from papers.nao_v2.architectures import load
from papers.nao_v2.network import Network

ROOT = Path(__file__).parents[2]
FLAGS = """
train --variant imagenet --profile paper --layers 1 --channels 4 --epochs 1 --batch-size 4 --workers 0 --device cpu
--allow-unpinned
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.RandomState(0)
    for split, count in (("train", 8), ("valid", 4)):
        for number in range(2):
            folder = root / split / f"class{number}"
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = (rng.rand(30, 36, 3) * 120 + 100 * number).astype(np.uint8)
                Image.fromarray(pixels).resize((252, 240)).save(folder / f"{k}.png")
    return root


def command(*words: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_two_processes_equal_one_with_the_same_parts(tree, tmp_path, monkeypatch):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "papers.nao_v2")
    command(*torchrun, *FLAGS.split(), "--dataset", str(tree), "--out", str(tmp_path / "two"))
    result = read_json(tmp_path / "two" / "result.json")
    assert result["processes"] == 2
    assert "0.2," in (tmp_path / "two" / "history.csv").read_text()  # the rate of two processes

    options = SimpleNamespace(data=None, allow_unpinned=True)
    pictures, parts = open_pictures(str(tree), "train", options), []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        batches = datasets.picture_batches(pictures, 4, 0, torch.device("cpu"), 0)
        parts.append(list(batches.epoch(0)))
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    torch.manual_seed(seeds.integer(0, "classifier bias"))
    network = Network(
        load("NAONet_V2"), kind="imagenet", channels=4, layers=1, classes=2, auxiliary=True,
        generator=seeds.generator(0, "weights"),
    ).train()  # fmt: skip
    optimizer = torch.optim.SGD(network.parameters(), 0.2, momentum=0.9, weight_decay=3e-5)
    assert len(parts[0]) == len(parts[1]) == 2
    for step in zip(*parts, strict=True):
        optimizer.zero_grad()
        for x, y in step:
            logits, auxiliary = network(x)
            loss = label_smoothing_cross_entropy(logits, y, 0.1)
            ((loss + 0.4 * label_smoothing_cross_entropy(auxiliary, y, 0.1)) / 2).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
    found = load_file(tmp_path / "two" / "weights.safetensors")
    for name, value in network.named_parameters():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-5), name

    weights = ("--checkpoint", str(tmp_path / "two" / "weights.safetensors"), "--out", str(tmp_path / "test"))
    few = ("--dataset", str(tree), "--workers", "0", "--allow-unpinned", "--batch-size", "4")
    command("-m", "papers.nao_v2", "evaluate", *few, *weights)
    tested = read_json(tmp_path / "test" / "result.json")["metrics"]
    assert tested["top1_error_percent"] == result["metrics"]["top1_error_percent"]
    row = (tmp_path / "two" / "history.csv").read_text().splitlines()[1].split(",")
    assert tested["test_loss"] == pytest.approx(float(row[4]), rel=1e-5)  # tested with the statistics that are saved


def test_the_published_batch_and_rate_per_process():
    from papers.nao_v2.settings import IMAGENET, TrainSettings
    from papers.nao_v2.train import per_process_batch, recipe_of

    c = TrainSettings(**IMAGENET)
    for world in (1, 4):
        assert per_process_batch(c, world) == 128
        assert recipe_of(c, world, 10).learning_rate == pytest.approx(0.1 * world)
        assert recipe_of(c, world, 10).rate(2) == pytest.approx(0.1 * world * 0.97**2)
