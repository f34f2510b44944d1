"""Training a cell by the benchmark's recipe: facts of the recipe, the splits, the tables beside it, tests of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from common.cli.verbs import main
from common.data.augment import Augmentation, Normalisation, normalise
from common.data.batches import Batches, Order
from common.data.nasbench201 import Table, official_halves, to_operations, to_string
from common.data.sets import blank
from common.errors import UserError
from common.run import seeds
from common.spaces.nasbench201 import data, train
from common.spaces.nasbench201.network import Network
from common.spaces.nasbench201.settings import TrainCell
from papers.evnas import network
from papers.evnas.__main__ import VERBS
from papers.nsas.__main__ import VERBS as NSAS
from tests.evnas.small import mistake, options
from tests.plain import own_pictures
from tests.plain_loops import PlainSGD, cosine, noise, numbered, places, plain_training, same_weights
from tests.spaces.test_lookup import arrays

CELL = to_string((3, 0, 1, 1, 4, 2))
SMALL = ["--train-images", "96", "--batch-size", "32", "--epochs", "2", "--channels", "2"]


def test_the_defaults_are_the_benchmarks():
    c = TrainCell()
    assert (c.epochs, c.batch_size, c.lr, c.momentum, c.nesterov, c.weight_decay) == (200, 256, 0.1, 0.9, True, 5e-4)
    assert (c.channels, c.cells_per_stage, c.flip) == (16, 5, True)
    for name, pad in (("cifar10", 4), ("cifar100", 4), ("imagenet16-120", 2)):
        images = blank(name, 12, size=16 if pad == 2 else 32)
        found = data.augmentation(c, images)
        assert (found.pad, found.flip, found.cutout, found.order) == (pad, True, 0, "flip_crop")
    assert data.constants("cifar10")[0][0] == 125.3 / 255 and data.constants("imagenet16-120")[1][2] == 65.09 / 255


def test_parts_are_the_benchmarks(monkeypatch):
    sizes = {"cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000), "imagenet16-120": (151_700, 6_000)}
    monkeypatch.setattr(data, "open_images", lambda name, part, _: blank(name, sizes[name][part != "train"], size=16))

    def parts(dataset, split="whole"):
        found = data.open_cell_data(TrainCell(dataset=dataset, split=split), options(Path("nowhere")))
        return {"train": len(found.train), **{part: len(images) for part, images in found.held.items()}}

    assert parts("cifar10") == {"train": 50_000, "test": 10_000}
    assert parts("cifar10", "halves") == {"train": 25_000, "valid": 25_000, "test": 10_000}
    assert parts("cifar100") == {"train": 50_000, "valid": 5_000, "test": 5_000}
    assert parts("imagenet16-120") == {"train": 151_700, "valid": 3_000, "test": 3_000}
    with pytest.raises(UserError, match="cifar100 has validation images beside its training set"):
        parts("cifar100", "halves")
    first, _ = official_halves("cifar10")
    assert first[0] == 0 and first[10] == 26  # the benchmark's own checks of its split


def test_which_images_are_in_which_part(monkeypatch):
    """The first of the benchmark's halves trains, or is x-valid; the second validates, or is x-test."""
    sizes = {"cifar10": (50_000, 100), "cifar100": (500, 10_000), "imagenet16-120": (500, 6_000)}
    monkeypatch.setattr(data, "open_images", lambda name, part, _: numbered(sizes[name][part != "train"], name))

    def held(images):
        return places(normalise(images.pixels, Normalisation((0.0,) * 3, (1.0,) * 3)), (0.0,) * 3, (1.0,) * 3)

    for dataset, split in (("cifar10", "halves"), ("cifar100", "whole"), ("imagenet16-120", "whole")):
        found = data.open_cell_data(TrainCell(dataset=dataset, split=split), options(Path("nowhere")))
        first, second = official_halves(dataset if split == "halves" else f"{dataset}-test")
        one, two = (found.train, found.held["valid"]) if split == "halves" else found.held.values()
        assert list(found.held) == ["valid", "test"]
        assert held(one) == first.tolist() and held(two) == second.tolist()


def test_training_is_the_plain_loop(tmp_path, monkeypatch):
    """Three epochs of Nesterov steps; the last weights are kept, and tested on images as they are."""
    sets = {"train": noise(60), "test": noise(90, seed=1)}
    monkeypatch.setattr(data, "open_images", lambda name, part, _: sets[part])
    settings = TrainCell(
        arch=CELL, dataset="digits", train_images=40, channels=2, cells_per_stage=1, epochs=3, batch_size=20, lr=0.05,
        momentum=0.8, weight_decay=0.1, pad=2, flip=False, eval_batch_size=40,
    )  # fmt: skip
    asked = options(tmp_path)
    result = train.train_cell(settings, asked, train.cell_of(CELL, asked, {}))
    seeds.seed_everything(0)
    model = Network(to_operations(CELL), 2, 1, 10)
    constants = tuple(tuple(v / 255 for v in row) for row in ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)))
    batches = Batches(
        sets["train"].subset(range(40)), 20, Augmentation(*constants, pad=2, order="flip_crop"), Order(0)
    )  # fmt: skip
    x, y = next(Batches(sets["test"], 90, Augmentation(*constants), Order(0, shuffle=False)).epoch(0))
    sgd, forward = PlainSGD(model.parameters(), 0.8, 0.1, nesterov=True), model.forward
    model.forward = lambda images: (forward(images), None)
    errors = plain_training(
        model, 3, batches.epoch, lambda epoch: cosine(0.05, 0.0, epoch, 3), sgd, 0.0,
        lambda logits, auxiliary, y: cross_entropy(logits, y),
        lambda network: float((network(x)[0].argmax(1) != y).double().mean()),
    )  # fmt: skip
    same_weights(load_file(tmp_path / "weights.safetensors"), model)
    assert result["metrics"]["top1_error_percent"] == pytest.approx(100 * errors[-1])


def test_rates_fall_by_the_epoch_and_evaluate_finds_the_same_error(tmp_path):
    run = tmp_path / "run"
    main("evnas", VERBS, ["train", "--space", "nb201", "--arch", CELL, *SMALL, "--out", str(run)])
    result = json.loads((run / "result.json").read_text())
    rows = list(csv.DictReader((run / "history.csv").open()))
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.1, 0.05])
    assert result["metrics"]["accuracy_percent"] == 100 - result["metrics"]["top1_error_percent"]
    assert result["tables"] == {"note": "NAS-Bench-201 has no accuracies on digits"}
    for paper, verbs in (("evnas", VERBS), ("nsas", NSAS)):
        out = tmp_path / paper
        main(paper, verbs, ["evaluate", "--checkpoint", str(run / "weights.safetensors"), "--out", str(out)])
        found = json.loads((out / "result.json").read_text())["metrics"]
        assert found["top1_error_percent"] == result["metrics"]["top1_error_percent"] and found["images"] == 1000
        assert found["loss"] == pytest.approx(result["metrics"]["loss"], rel=1e-6)
    net = network(weights=run)
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 10) and net.stem[0].out_channels == 2


def test_own_pictures_train_in_halves_and_are_tested_on_their_parts(tmp_path):
    folder = own_pictures(tmp_path / "pictures", ("train", "val", "test"), each=8, side=16)
    words = ["--dataset", str(folder), "--train-images", "0", "--batch-size", "8", "--epochs", "1"]
    main("nsas", NSAS, ["train", "--space", "nb201", "--arch", "GDAS_NSAS", *words, "--out", str(tmp_path / "run")])
    metrics = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert {"valid_top1_error_percent", "top1_error_percent"} <= set(metrics)


def test_the_tables_stand_beside(monkeypatch, tmp_path):
    table, cell = Table(arrays()), train.cell_of("301142", options(tmp_path), {})
    monkeypatch.setattr(Table, "open", lambda *_: table)
    monkeypatch.setattr(train, "release_1_0", lambda *_: {"301142": 93.0})

    def said(**settings):
        return train.in_tables(cell, TrainCell(**settings), options(tmp_path))

    value = table.lookup(cell.operations, "cifar10")
    assert said() == {
        "accuracies": {"test": value, "test_v1_0": 93.0}, "same_recipe": True,
    }  # fmt: skip
    short = said(epochs=12, split="halves")["accuracies"]
    assert short == {"valid": table.lookup(cell.operations, "cifar10", "valid", 12)}
    assert set(said(dataset="cifar100")["accuracies"]) == {"valid", "test"}
    assert said(lr=0.05, channels=8)["note"] == "not the benchmark's recipe: --channels, --lr"
    assert "after 12 and 200 epochs, not after 5" in said(epochs=5)["note"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "no cell given; add --arch"),
        (["--arch", "EvNASA"], "'EvNASA' is no cell of NAS-Bench-201"),
        (["--arch", "301142", "--recipe", "imagenet"], "train has no combination"),
        (["--arch", "301142", "--momentum", "0"], "Nesterov's form needs a momentum"),
        (["--arch", "301142", "--pad", "40"], "--pad must be -1 or 0 to the images' side of 32"),
    ],
)
def test_mistakes(tmp_path, capsys, words, line):
    assert line in mistake(capsys, "train", "--space", "nb201", *words, "--out", str(tmp_path / "out"))
