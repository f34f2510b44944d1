"""Training from scratch: what is watched and reported, recipes, every kind of set."""

import csv
import shutil
from dataclasses import replace

import pytest

from common.errors import UserError
from common.spaces.architecture import save_architecture
from papers.cream.evaluate import evaluate
from papers.cream.method.schedules import training_lr
from papers.cream.search import search
from papers.cream.settings import GENERIC_TRAIN, Evaluate, Search, Train
from papers.cream.train import train
from reproductions.__main__ import main as reproductions
from tests.cream.tools import TRAIN, described, options


def test_the_best_test_epoch_stands_beside_the_last(trained):
    folder, result = trained
    with (folder / "history.csv").open() as lines:
        errors = [float(row["top1_error_percent"]) for row in csv.DictReader(lines)]
    metrics = result["metrics"]
    assert metrics["top1_error_percent"] == errors[-1] and metrics["best_top1_error_percent"] == min(errors)
    assert metrics["best_epoch"] == errors.index(min(errors))


def test_a_folder_with_val_and_test_is_watched_on_val(class_folders, tmp_path):
    shutil.copytree(class_folders / "val", class_folders / "test")
    (class_folders / "test" / "a" / "0.png").unlink()
    settings = replace(TRAIN, dataset=str(class_folders), train_images=0, batch_size=4, parts=1, epochs=1,
                       crop="resized", pad=4, warmup_epochs=0)  # fmt: skip
    result = train(settings, options(tmp_path / "run", "train"))
    with (tmp_path / "run" / "history.csv").open() as lines:
        (row,) = csv.DictReader(lines)
    assert "top1_error_percent" not in row and float(row["valid_top1_error_percent"]) % 12.5 == 0  # of 8 pictures
    metrics = result["metrics"]
    assert round(metrics["top1_error_percent"] * 7 / 100, 6) in range(8)  # of 7
    assert metrics["best_valid_top1_error_percent"] == metrics["valid_top1_error_percent"]


@pytest.mark.parametrize("packed", [False, True])
def test_folders_and_lmdb_through_every_stage(class_folders, tmp_path, packed):
    """Class folders, and the same pictures packed by ``python -m reproductions data prepare lmdb``."""
    dataset = class_folders
    if packed:
        dataset = tmp_path / "packed"
        dataset.mkdir()
        for split, name in (("train", "train.lmdb"), ("test", "val.lmdb")):
            arguments = ["data", "prepare", "lmdb", "--source", str(class_folders), "--split", split]
            assert reproductions([*arguments, "--to", str(dataset / name)]) == 0
    searched = search(
        Search(
            dataset=str(dataset), resolution=32, workers=0, macs_max=122, epochs=2, batch_size=4, parts=1, lr=0.01,
            start_epoch=0, update_every=1, pool_size=2, slice=2, holdout=2, recalibrate_batches=1,
            choose="rescore",
        ),
        options(tmp_path / "search", "search"),
    )  # fmt: skip
    assert searched["metrics"]["meta_updates"] == 1 and searched["metrics"]["distilled"] == 1 and searched["scored"]
    arch = str(tmp_path / "search" / "architecture.json")
    settings = replace(TRAIN, arch=arch, dataset=str(dataset), train_images=0, batch_size=4, parts=1, crop="resized",
                       pad=4, randaugment=9.0, erasing=0.5, epochs=1, warmup_epochs=0)  # fmt: skip
    result = train(settings, options(tmp_path / "train", "train"))
    assert result["metrics"]["steps"] == 3
    weights = str(tmp_path / "train" / "weights.safetensors")
    sources = [dataset, dataset / "val.lmdb"] if packed else [dataset]
    for number, source in enumerate(sources):
        again = evaluate(
            Evaluate(arch=arch, checkpoint=weights, dataset=str(source), workers=0),
            options(tmp_path / f"evaluate{number}", "evaluate"),
        )
        assert again["metrics"]["images"] == 8
        assert again["metrics"]["loss"] == pytest.approx(result["metrics"]["loss"], abs=1e-4)
    if packed:  # the pictures are the same, so the run is
        plain = train(replace(settings, dataset=str(class_folders)), options(tmp_path / "plain", "train"))
        assert plain["metrics"] == result["metrics"]


def test_a_path_of_the_larger_space_is_trained_as_it_was_searched(tmp_path):
    settings = Search(
        dataset="digits", train_images=48, resolution=32, workers=0, macs_max=122, epochs=2, batch_size=8, parts=1,
        lr=0.01, start_epoch=0, update_every=2, pool_size=2, slice=3, crop="padded", flip=False,
        jitter=0.0, resunit=True, dil_conv=True, pool="catavgmax", sampling="weighted",
        probabilities=(0.0,) * 6 + (0.3, 0.3, 0.4),
    )  # fmt: skip
    found = search(settings, options(tmp_path / "search", "search"))
    path = found["architecture"]["path"]
    assert all(choice >= 6 for stage in path[1:6] for choice in stage)
    file = tmp_path / "search" / "architecture.json"
    sizes = described(str(file), "digits")
    assert sizes["parameters"] == found["metrics"]["parameters"] and sizes["architecture"] == path
    result = train(replace(TRAIN, arch=str(file), epochs=1), options(tmp_path / "train", "train"))
    assert result["metrics"]["parameters"] == found["metrics"]["parameters"]
    again = evaluate(
        Evaluate(arch=str(file), checkpoint=str(tmp_path / "train" / "weights.safetensors"), dataset="digits"),
        options(tmp_path / "evaluate", "evaluate"),
    )
    assert again["metrics"]["loss"] == pytest.approx(result["metrics"]["loss"], abs=1e-4)
    save_architecture(file, "cream", {"path": path, "resolution": 32}, {})
    with pytest.raises(UserError, match="unknown choice"):
        described(str(file), "digits")


def test_generic_recipe():
    """retrain.yaml: constant rate, no warm-up, no cool-down."""
    settings = Train(arch="14", **GENERIC_TRAIN)
    rate, epochs = training_lr(settings, "14")
    assert epochs == 200 and {rate(epoch) for epoch in range(epochs)} == {1e-2}
