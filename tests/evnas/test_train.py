"""Training of derived networks: tiny runs of both recipes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.pictures.batches import open_pictures
from common.errors import UserError
from common.spaces.architecture import save_architecture
from papers.evnas.describe import describe
from papers.evnas.evaluate import evaluate
from papers.evnas.networks.architectures import PUBLISHED, build, load_genotype
from papers.evnas.settings import Describe, Evaluate, Train, TrainImageNet
from papers.evnas.train import train
from tests.evnas.small import TRAIN, train_options


def test_train_then_evaluate(tmp_path):
    settings = Train(**TRAIN)
    result = train(settings, train_options(tmp_path / "train"))
    weights = str(tmp_path / "train" / "weights.safetensors")
    found = evaluate(Evaluate(dataset="digits", checkpoint=weights), train_options(tmp_path / "evaluate"))
    assert found["metrics"]["top1_error_percent"] == pytest.approx(result["metrics"]["top1_error_percent"])
    assert found["metrics"]["loss"] == pytest.approx(result["metrics"]["loss"], rel=1e-6)
    assert found["metrics"]["images"] == 1000
    rows = (tmp_path / "train" / "history.csv").read_text().splitlines()
    assert len(rows) == 3 and rows[0].startswith("epoch,lr,drop_path,train_loss")
    assert train(settings, train_options(tmp_path / "train")) == result  # a finished run is recognised


def test_epochs_without_a_test_have_no_error_in_the_history(tmp_path):
    result = train(Train(**{**TRAIN, "epochs": 3}, eval_every=2), train_options(tmp_path))
    errors = [row["test_top1_error_percent"] for row in csv.DictReader((tmp_path / "history.csv").open())]
    assert errors[0] == "" and errors[1] != "" and float(errors[2]) == result["metrics"]["last_top1_error_percent"]


def folder_of_pictures(root: Path) -> Path:

    generator = np.random.RandomState(0)
    for split in ("train", "val"):
        for name in ("one", "two"):
            (root / split / name).mkdir(parents=True)
            for i in range(3):
                pixels = generator.randint(0, 256, (70, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def test_imagenet_recipe_and_container(tmp_path):
    """One epoch on pictures, then a checkpoint in the authors' container: epoch, state_dict, best_acc_top1,
    optimizer."""
    pictures = folder_of_pictures(tmp_path / "imagenet-two")
    assert len(open_pictures(str(pictures), "train", train_options(tmp_path)).classes) == 2
    result = train(
        TrainImageNet(dataset=str(pictures), channels=4, layers=3, epochs=1, batch_size=3, workers=0,
                              auxiliary=False, schedule="cosine"),
        train_options(tmp_path / "train"),
    )  # fmt: skip
    assert 0 <= result["metrics"]["top1_error_percent"] <= 100
    model = build(load_genotype("EvNASA"), True, 2, 4, 6, auxiliary=False)
    state = {"module." + key: value for key, value in model.state_dict().items()}
    container = {"epoch": 3, "state_dict": state, "best_acc_top1": torch.tensor(50.0), "optimizer": {"state": {}}}
    torch.save(container, tmp_path / "model_best.pth.tar")
    found = evaluate(
        Evaluate("EvNASA", str(pictures), str(tmp_path / "model_best.pth.tar"), workers=0),
        train_options(tmp_path / "out"),
    )
    assert found["metrics"]["images"] == 6


def test_an_architecture_file_trains(tmp_path):
    path = tmp_path / "architecture.json"
    save_architecture(path, "darts", PUBLISHED["EvNASC"].as_dict())
    result = train(Train(**{**TRAIN, "arch": str(path), "epochs": 1}), train_options(tmp_path / "run"))
    assert result["architecture"]["normal"] == PUBLISHED["EvNASC"].as_dict()["normal"]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["metrics"] == result["metrics"]
    assert describe(Describe(str(path), "cifar10"))["parameters"] == 3447838
    save_architecture(path, "nasbench201", "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    with pytest.raises(UserError, match="space"):
        load_genotype(str(path))
