"""``train``, random search and rank study against second ones, written plainly; the published settings typed again."""

from __future__ import annotations

import csv
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from common.cli.verbs import RunOptions
from common.data.sets import Images
from common.run import seeds
from common.run.folder import Run
from common.weights.read import read_metadata
from papers.nao_v2 import train as train_module
from papers.nao_v2.data import sets as datasets
from papers.nao_v2.method import stand_alone
from papers.nao_v2.networks.architectures import Shape, load, random_architecture, text_of
from papers.nao_v2.networks.size import size_of
from papers.nao_v2.settings import IMAGENET, IMAGENET_4, SEARCH_VARIANTS, RandomSearch, RankStudy, Search, Train
from papers.nao_v2.studies import random_search as random_module
from papers.nao_v2.studies import rank_study as rank_module
from tests.nao_v2.plainly import Alone, cosine, errors_of, pictures
from tests.nao_v2.stand_in import StandIn
from tests.nao_v2.test_plain_search import Plainly

SEED = 5
TRAIN = Train(
    dataset="cifar10", layers=2, channels=4, epochs=5, batch_size=30, lr=1.5, lr_min=0.3, momentum=0.8, clip=0.1,
    weight_decay=0.02, drop_path_keep=0.5, dropout_keep=0.7, auxiliary_weight=0.3, cutout=8, train_images=80,
)  # fmt: skip
FOLDER = {"schedule": "exponential", "decay_rate": 0.5, "decay_epochs": 2, "lr": 1.0, "label_smoothing": 0.2,
          "eval_every": 2, "lr_min": 0.0, "auxiliary": False, "auxiliary_weight": 0.4, "seed": 12}  # fmt: skip


def options(folder: Path, section: str, seed: int = SEED) -> RunOptions:
    return RunOptions(out=folder, device="cpu", paper="nao_v2", section=section, seed=seed)


@pytest.fixture(autouse=True)
def _quick(monkeypatch, one_thread):
    """No state is saved; a stand-in takes the place of the networks."""
    monkeypatch.setattr(Run, "write_state", lambda self, state: None)
    for module in (train_module, stand_alone):
        monkeypatch.setattr(module, "Network", StandIn)


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """What is read of the set: 80 images to train on, 70 to choose by, 60 to test on."""
    asked, parts = [], {"train": pictures().subset(range(80)), "val": pictures().subset(range(80, 150))}
    parts["test"] = pictures("test").subset(range(60))

    def opened(name: str, split: str, *rest: Any) -> Images:
        asked.append(split)
        return parts[split]

    monkeypatch.setattr(datasets, "open_set", opened)
    return asked


def rows(file: Path, *columns: str) -> list[list[float | None]]:
    with file.open() as lines:
        return [[float(row[c]) if row[c] else None for c in columns] for row in csv.DictReader(lines)]


@pytest.mark.parametrize("folder", [False, True])
def test_a_whole_training(tmp_path, read, monkeypatch, folder):
    """The best epoch's weights and the last; by the test part, or by a validation part and then tested."""
    monkeypatch.setattr(train_module, "has_validation", lambda name: folder)
    changes = dict(FOLDER) if folder else {}
    seed = changes.pop("seed", 8)
    c = replace(TRAIN, **changes)
    metrics = train_module.train(c, options(tmp_path, "train", seed))["metrics"]
    assert read == (["train", "test", "val"] if folder else ["train", "test"])
    train, judge = pictures().subset(range(80)), pictures().subset(range(80, 150))
    test = pictures("test").subset(range(60))
    torch.manual_seed(seeds.integer(seed, "classifier bias"))
    shape = Shape(channels=4, layers=2)
    told = {"auxiliary": c.auxiliary, "dropout_keep": 0.7, "relu_in_place": True}
    net = StandIn(load("NAONet_V2"), shape, **told, generator=seeds.generator(seed, "weights"))
    torch.manual_seed(seeds.integer(seed, "drop path", 0))
    rates = [cosine(1.5, 0.3, epoch, 5) for epoch in range(5)]
    if folder:
        rates = [1.0, 1.0, 0.5, 0.5, 0.25]
    alone = Alone(
        rates, 0.8, 0.02, 0.1, 0.5, 5 * 3, 30, c.auxiliary_weight, c.label_smoothing, 8
    )  # fmt: skip
    history, seen = [], []
    for epoch, row in enumerate(alone.epochs(net, train, seed, "train")):
        found: tuple[float | None, ...] = (None, None, None)
        if not folder or epoch in (1, 3, 4):
            found = errors_of(net, judge if folder else test)
            weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
            seen.append((found[1], epoch, found[2], weights))
        history.append([epoch, rates[epoch], *row, *found])
    best = min(seen, key=lambda s: s[:2])
    assert best[1] < 4 and best[0] < seen[-1][0]  # the best is not the last
    part = "valid" if folder else "test"
    columns = (f"{part}_loss", f"{part}_top1_error_percent", f"{part}_top5_error_percent")
    held = rows(tmp_path / "history.csv", "epoch", "lr", "train_loss", "train_top1_error_percent", *columns)
    for one, other in zip(held, history, strict=True):
        assert [v is None for v in one] == [v is None for v in other]
        assert [v for v in one if v is not None] == pytest.approx([v for v in other if v is not None], rel=1e-4)
    last = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for name, weights, epoch in (("weights", best[3], best[1]), ("weights_last", last, 4)):
        file = tmp_path / f"{name}.safetensors"
        assert read_metadata(file)["epoch"] == epoch
        for key, tensor in load_file(file).items():
            torch.testing.assert_close(tensor, weights[key], rtol=1e-4, atol=1e-6)
    size = size_of(load("NAONet_V2"), shape, 32)
    want: dict[str, Any] = {"best_epoch": best[1], "parameters": size.parameters, "macs": size.macs}
    if folder:
        want |= {"last_top1_error_percent": errors_of(net, test)[1], "valid_top1_error_percent": best[0]}
        net.load_state_dict(best[3])
        _, want["top1_error_percent"], want["top5_error_percent"] = errors_of(net, test)
    else:
        want |= {"top1_error_percent": best[0], "top5_error_percent": best[2], "last_top1_error_percent": seen[-1][0]}
    assert metrics == pytest.approx(want)


SMALL = {"dataset": "cifar10", "valid_images": 50, "train_images": 40, "layers": 2, "channels": 4, "batch_size": 25}


def parts_of(rng: np.random.RandomState) -> tuple[Images, Images]:
    """The first 40 of the shuffled images, and the last 50."""
    images, places = pictures(), np.arange(len(pictures()))
    rng.shuffle(places)
    return images.subset(places[:40]), images.subset(places[-50:])


def accuracy(c: Any, alone: Alone, architecture: Any, number: int, parts: tuple[Images, Images]) -> float:
    """After training from scratch."""
    torch.manual_seed(seeds.integer(SEED, "alone", str(number)))
    told = {"auxiliary": True, "dropout_keep": 0.6, "relu_in_place": True}
    net = StandIn(
        architecture, Shape(channels=4, layers=2), **told, generator=seeds.generator(SEED, "alone", str(number))
    )
    for _ in alone.epochs(net, parts[0], SEED, f"alone-{number}"):
        pass
    return 100 - errors_of(net, parts[1])[1]


def test_a_whole_random_search(tmp_path, monkeypatch):
    monkeypatch.setattr(random_module, "small_images", lambda name, split, _: {"train": pictures()}[split])
    c = RandomSearch(**SMALL, epochs=3, architectures=4, search_epochs=12, search_iterations=3, lr=0.8, lr_min=0.1)
    result = random_module.random_search(c, options(tmp_path, "random_search"))
    rng = seeds.numpy_rng(SEED, "random search")
    parts = parts_of(rng)
    drawn = [random_architecture(rng, 5) for _ in range(4)]
    alone = Alone([cosine(0.8, 0.1, e, 3) for e in range(3)], 0.9, 3e-4, 5.0, 0.8, 4 * 2, 25)
    scores = [accuracy(c, alone, a, number, parts) for number, a in enumerate(drawn)]
    best = scores.index(max(scores))
    assert [row[0] for row in rows(tmp_path / "history.csv", "valid_accuracy_percent")] == pytest.approx(scores)
    assert best and result["architecture"] == text_of(drawn[best])
    size = size_of(drawn[best], Shape(channels=4, layers=2))
    want = {"valid_accuracy_percent": scores[best], "architectures": 4, "parameters": size.parameters}
    assert result["metrics"] == pytest.approx({**want, "macs": size.macs})


def test_a_whole_rank_study(tmp_path, monkeypatch):
    """Both sides as they were asked for: who is trained along which paths, and the agreement of what was found."""
    monkeypatch.setattr(rank_module, "small_images", lambda name, split, _: {"train": pictures()}[split])
    built: list[StandIn] = []

    def supernet(**told: Any) -> StandIn:
        built.append(StandIn(**told))
        return built[-1]

    monkeypatch.setattr(rank_module, "Supernet", supernet)
    c = RankStudy(
        **SMALL, architectures=5, seeds=2, epochs=2, alone_epochs=2, lr=0.8, lr_min=0.1, momentum=0.8, clip=0.3,
        weight_decay=0.01, drop_path_keep=0.5,
    )  # fmt: skip
    result = rank_module.rank_study(c, options(tmp_path, "rank_study"))
    rng = np.random.RandomState(SEED)
    parts = parts_of(rng)
    drawn = [random_architecture(rng, 5) for _ in range(5)]
    alone = Alone([cosine(0.8, 0.1, e, 2) for e in range(2)], 0.8, 0.01, 0.3, 0.8, 2 * 2, 25)
    scores = [accuracy(c, alone, a, number, parts) for number, a in enumerate(drawn)]
    assert result["alone"] == pytest.approx(scores)
    sizes = [size_of(a, Shape(channels=4, layers=2)).parameters for a in drawn]
    assert [row[0] for row in rows(tmp_path / "rank.csv", "parameters")] == sizes
    shared: dict[str, list[float]] = {}
    for repeat in (0, 1):
        for policy in ("params", "uniform"):
            plainly = Plainly(Search(**{**asdict(c_of(c)), "sampling": policy}), pictures(), seed=SEED + repeat)
            plainly.train, plainly.valid = parts
            plainly.rng = seeds.numpy_rng(SEED + repeat, "paths", policy)
            torch.manual_seed(seeds.integer(SEED + repeat, "rank study", policy))
            told = {"channels": 4, "layers": 2, "classes": 10, "space": "small"}
            net = plainly.net = StandIn(**told, generator=seeds.generator(SEED + repeat, "supernet"))
            assert built[len(shared)].told == net.told
            plainly.sgd = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.8, weight_decay=0.01)
            plainly.train_supernet(drawn, 0)
            shared[f"{policy}-{repeat}"] = [plainly.score(0, k, a) for k, a in enumerate(drawn)]
    assert result["shared"].keys() == shared.keys()
    for name, found in shared.items():
        assert result["shared"][name] == pytest.approx(found), name
    for policy in ("params", "uniform"):
        pairs = [
            np.mean([(s[i] >= s[j]) == (scores[i] >= scores[j]) for j in range(5) for i in range(j)])
            for s in (shared[f"{policy}-{k}"] for k in (0, 1))
        ]
        assert result["metrics"][f"pairwise_accuracy_{policy}"] == pytest.approx(np.mean(pairs))
        assert result["metrics"][f"pairwise_accuracy_{policy}_spread"] == pytest.approx(np.std(pairs, ddof=1))


def c_of(c: RankStudy) -> Search:
    """What a search of the same supernet training would be asked for."""
    same = {name: value for name, value in asdict(c).items() if name in Search.__dataclass_fields__}
    return Search(**same)


def test_defaults():
    """The published runs' settings, typed a second time."""
    small = {"dataset": "cifar10", "valid_images": 5000, "train_images": 0, "space": "small", "layers": 3,
             "channels": 20, "batch_size": 64, "parts": 0, "lr": 0.025, "lr_min": 0.001}  # fmt: skip
    supernet = {**small, "pool_file": "", "epochs": 50, "momentum": 0.9, "weight_decay": 3e-4, "clip": 5.0,
                "drop_path_keep": 0.9, "zero_grad": "zeros"}  # fmt: skip
    assert asdict(Search()) == {
        **supernet, "score_images": 500, "iterations": 4, "seed_architectures": 1000, "new_architectures": 300,
        "sampling": "params", "dropout_keep": 1.0, "cutout": 0, "restart": "restart",
        "drop_path_rule": "identity_exempt", "supernet_weights": "keep", "controller_weights": "keep",
        "controller_epochs": 1000, "controller_batch_size": 100, "controller_lr": 0.001, "controller_embedding": 32,
        "controller_hidden": 64, "controller_mlp_layers": 0, "controller_mlp_hidden": 200,
        "controller_mlp_dropout": 0.1, "controller_weight_decay": 0.0, "controller_clip": 5.0, "controller_copies": 10,
        "trade_off": 0.8, "generation_seeds": 100, "maximum_step": 51, "canonical": False, "on_empty": "stop",
        "final": 5, "final_epochs": 10, "final_batch_size": 64, "final_auxiliary": True, "final_relu_in_place": True,
        "final_dropout_keep": 0.6, "final_drop_path_keep": 0.8, "final_drop_path_steps": 0,
    }  # fmt: skip
    assert asdict(RandomSearch()) == {
        **small, "epochs": 10, "architectures": 0, "auxiliary": True, "relu_in_place": True, "dropout_keep": 0.6,
        "drop_path_keep": 0.8, "drop_path_steps": 0, "search_epochs": 200, "search_iterations": 4, "search_final": 5,
    }  # fmt: skip
    assert asdict(RankStudy()) == {
        **supernet, "architectures": 50, "seeds": 3, "score_images": 0, "alone_epochs": 10, "alone_auxiliary": True,
        "alone_relu_in_place": True, "alone_dropout_keep": 0.6, "alone_drop_path_keep": 0.8, "alone_drop_path_steps": 0,
    }  # fmt: skip
    train = {
        "arch": "NAONet_V2", "checkpoint": "", "dataset": "cifar10", "space": "small", "network": "auto", "layers": 6,
        "channels": 36, "epochs": 600, "batch_size": 128, "parts": 0, "train_images": 0, "momentum": 0.9, "lr": 0.025,
        "lr_min": 0.0, "schedule": "cosine", "decay_rate": 0.97, "decay_epochs": 1, "weight_decay": 5e-4, "clip": 5.0,
        "label_smoothing": 0.0, "auxiliary": True, "auxiliary_weight": 0.4, "relu_in_place": True, "dropout_keep": 0.6,
        "drop_path_keep": 0.8, "cutout": 16, "autoaugment": False, "eval_every": 1, "workers": 8,
    }  # fmt: skip
    assert asdict(Train()) == train
    imagenet = {
        "dataset": "imagenet", "network": "imagenet", "layers": 4, "channels": 52, "epochs": 250, "lr": 0.1,
        "schedule": "exponential", "weight_decay": 3e-5, "label_smoothing": 0.1, "dropout_keep": 1.0,
        "drop_path_keep": 1.0, "cutout": 0,
    }  # fmt: skip
    assert asdict(Train(**IMAGENET)) == {**train, **imagenet}
    assert asdict(Train(**IMAGENET_4)) == {**train, **imagenet, "batch_size": 512, "lr": 0.4, "parts": 4}
    modern = {"score_images": 0, "canonical": True, "on_empty": "random", "final_relu_in_place": False}
    assert {"paper": {"supernet_weights": "reset"}, "modern": modern} == SEARCH_VARIANTS
    recipe = {"epochs": 10, "lr": 0.025, "lr_min": 0.001, "schedule": "cosine", "decay_rate": 0.97, "decay_epochs": 1,
              "momentum": 0.9, "weight_decay": 3e-4, "clip": 5.0, "label_smoothing": 0.0, "auxiliary_weight": 0.4,
              "drop_path_keep": 1.0, "drop_path_steps": 1}  # fmt: skip
    assert asdict(stand_alone.Recipe()) == recipe
