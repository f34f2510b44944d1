"""Training from scratch, from what a search found, on sets in memory, folders and LMDBs."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import torch

from common.weights.read import load_tensors
from papers.sgnas.evaluate import evaluate
from papers.sgnas.settings import CIFAR_TRAIN, Evaluate, Train
from papers.sgnas.train import train
from tests.sgnas.small import command, options

PAPER = "--profile paper --epochs 1 --batch-size 4 --workers 0 --warmup-epochs 0"


def test_train_and_evaluate(whole, tmp_path):
    folder, _ = whole
    settings = Train(
        arch=str(folder / "architecture.json"),
        dataset="digits",
        train_images=256,
        se=True,
        activation="hswish",
        bn_momentum=0.1,
        epochs=1,
        batch_size=64,
        lr=0.01,
        warmup_epochs=0,
        ema_decay=0.5,
    )
    trained = train(settings, options(tmp_path / "train", "train"))
    checked = evaluate(
        Evaluate(arch=settings.arch, checkpoint=str(tmp_path / "train" / "weights.safetensors"), dataset="digits"),
        options(tmp_path / "evaluate", "evaluate"),
    )
    assert checked["metrics"]["top1_error_percent"] == trained["metrics"]["top1_error_percent"]
    assert checked["metrics"]["parameters"] == trained["metrics"]["parameters"]


def test_cifar_reports_a_smoothed_test_loss(whole, tmp_path):
    """On CIFAR the authors smooth the test loss too (0.1); nothing else changes."""
    folder, _ = whole
    rows = []
    for smoothed in (False, True):
        settings = Train(
            **{**CIFAR_TRAIN, "dataset": "digits", "arch": str(folder / "architecture.json"), "macro": "tiny"},
        )
        assert settings.smoothed_test_loss and not Train().smoothed_test_loss
        settings = replace(settings, train_images=128, epochs=1, batch_size=64, smoothed_test_loss=smoothed)
        out = tmp_path / str(smoothed)
        train(settings, options(out, "train"))
        rows.append(next(csv.DictReader((out / "history.csv").open())))
    plain, smooth = rows
    for column in ("train_loss", "test_top1_error_percent", "test_top5_error_percent"):
        assert plain[column] == smooth[column]
    assert plain["test_loss"] != smooth["test_loss"]


def test_folders_equal_lmdbs(tree, tmp_path):
    common = PAPER.split()
    for kind in ("tree", "lmdb"):
        out = tmp_path / kind
        command("train", *common, "--arch", "SGNAS-C", "--dataset", tree / kind, "--train-images", 4, "--out", out)
        weights = out / "weights.safetensors"
        command(
            "evaluate", "--profile", "paper", "--arch", "SGNAS-C", "--dataset", tree / kind, "--workers", 0,
            "--checkpoint", weights, "--out", tmp_path / f"e-{kind}",
        )  # fmt: skip
    one, two = (tmp_path / kind / "weights.safetensors" for kind in ("tree", "lmdb"))
    assert all(torch.equal(tensor, load_tensors(two)[name]) for name, tensor in load_tensors(one).items())
    first, second = (json.loads((tmp_path / f"e-{k}" / "result.json").read_text())["metrics"] for k in ("tree", "lmdb"))
    assert first == second and first["images"] == 6
