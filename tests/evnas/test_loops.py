"""What search() and train() read and do, against a second loop: see also tests/golden/evnas."""

from __future__ import annotations

import csv

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from common.data.augment import Augmentation
from common.data.batches import Batches, Order
from common.data.nasbench201 import halves
from common.run import seeds
from common.spaces.darts import data as training_data
from papers.evnas import data, search
from papers.evnas.networks.architectures import build, load_genotype
from papers.evnas.settings import SearchDARTS, SearchNB201, Train
from papers.evnas.train import train
from tests.evnas.small import TRAIN, options, train_options
from tests.plain_loops import PlainSGD, cosine, noise, numbered, places, plain_training, same_weights

CIFAR = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
BENCHMARK = {
    "cifar10": ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
    "cifar100": ((129.3, 124.1, 112.4), (68.2, 65.4, 70.4)),
    "imagenet16-120": ((122.68, 116.66, 104.01), (63.22, 61.26, 65.09)),
}  # of 255
FEW = {"channels": 1, "generations": 2, "population": 2, "tournament": 2, "pad": 0, "flip": False, "cutout": 0}


def read_by(settings, sizes, tmp_path, monkeypatch) -> tuple[list[list[int]], list[list[int]]]:
    """Places of the images of each training pass and of each fitness pass; sizes: part -> its number of images."""
    sets = {part: numbered(count, settings.dataset) for part, count in sizes.items()}
    monkeypatch.setattr(data, "open_images", lambda name, part, options: sets[part])
    constants = CIFAR
    if isinstance(settings, SearchNB201):
        constants = tuple(tuple(v / 255 for v in row) for row in BENCHMARK[settings.dataset])
    trained, measured = [], []

    def descend(model, optimizer, shares, *rest):
        assert model.training and not torch.is_inference_mode_enabled()
        trained.append((rest[-1]["generation"], places(shares[0][0], *constants)))
        return 1.0

    def measure(forward, shares, *rest):
        measured[-1].extend(places(shares[0][0], *constants))

    monkeypatch.setattr(search, "descend", descend)
    monkeypatch.setattr(search, "measure", measure)
    monkeypatch.setattr(search, "measured_at", lambda settings, individuals: list(range(len(individuals))))
    monkeypatch.setattr(search, "score", lambda counter: measured.append([]) or [50.0, 90.0, 1.0])
    measured.append([])
    search.search(settings, options(tmp_path))
    assert measured.pop() == []
    passes = [[k for g, batch in trained if g == generation for k in batch] for generation in range(2)]
    return passes, measured


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "imagenet16-120"])
def test_the_images_of_a_search_in_nasbench201(dataset, tmp_path, monkeypatch):
    """CIFAR-10: the benchmark's two halves of the training set. The others: all of it, and the half x-valid of the test
    set.
    """
    sizes = {"train": 50_000} if dataset == "cifar10" else {"train": 3_000, "test": 10_000}
    if dataset == "imagenet16-120":
        sizes = {"train": 3_000, "test": 6_000}
    settings = SearchNB201(**FEW, cells_per_stage=1, dataset=dataset, batch_size=2_500, fitness_batch_size=5_000)
    trained, measured = read_by(settings, sizes, tmp_path, monkeypatch)
    first, second, origin = halves("cifar10" if dataset == "cifar10" else f"{dataset}-test", max(sizes.values()))
    assert origin == "official"
    weights, fitness = (first, second) if dataset == "cifar10" else (range(3_000), first)
    assert [sorted(one) for one in trained] == [list(weights)] * 2 and trained[0] != trained[1]
    assert [sorted(one) for one in measured] == [list(fitness)] * 4
    assert len({tuple(one) for one in measured}) == 4  # every pass in an order of its own


def test_the_images_of_a_search_in_darts(tmp_path, monkeypatch):
    """The first half in file order trains, the last measures; limits take the first images of each."""
    settings = SearchDARTS(**FEW, layers=3, batch_size=30, fitness_batch_size=40)
    trained, measured = read_by(settings, {"train": 300}, tmp_path / "whole", monkeypatch)
    assert [sorted(one) for one in trained] == [list(range(150))] * 2
    assert [sorted(one) for one in measured] == [list(range(150, 300))] * 4
    few = SearchDARTS(**FEW, layers=3, batch_size=30, fitness_batch_size=20, train_images=40, fitness_images=50)
    trained, measured = read_by(few, {"train": 300}, tmp_path / "few", monkeypatch)
    assert sorted(trained[0]) == list(range(40)) and sorted(measured[0]) == list(range(150, 200))


@pytest.mark.parametrize(("settings", "training"), [(SearchDARTS, True), (SearchNB201, False)])
def test_the_mode_of_fitness_passes(settings, training):
    """DARTS: statistics of the batch; NAS-Bench-201: the running ones."""
    model = torch.nn.BatchNorm2d(3)
    model.train(not training)
    assert search.for_fitness(model, settings(), "fp32") is model and model.training is training


def test_a_step_of_the_search_is_the_plain_one():
    """Two Nesterov steps, gradients cut to a small norm; the alphas of the supernet stay."""
    settings = SearchNB201(channels=2, cells_per_stage=1, lr=0.03, momentum=0.8, weight_decay=0.1)
    torch.manual_seed(0)
    model, plain = (search.supernet_of(settings, 10).train() for _ in range(2))
    plain.load_state_dict(model.state_dict())
    optimizer, named = search.sgd(model, settings), [p for n, p in plain.named_parameters() if n != "arch_parameters"]
    sgd = PlainSGD(named, 0.8, 0.1, 0.2, nesterov=True)
    for step in range(2):
        shares = [(torch.randn(4, 3, 8, 8), torch.arange(4))]
        mixture = torch.rand(6, 5).softmax(-1)
        loss = search.descend(model, optimizer, shares, mixture, 0.2, "fp32", {"step": step})
        own = cross_entropy(plain(shares[0][0], mixture), shares[0][1])
        sgd.step(torch.autograd.grad(own, sgd.tensors, allow_unused=True), 0.03)
        assert loss == pytest.approx(float(own.detach()), rel=1e-5)
    assert min(sgd.norms) > 0.4
    same_weights(model.state_dict(), plain)


@pytest.mark.parametrize(("strategy", "answer"), [("evolution", "last"), ("random-search", "best")])
def test_the_answer_of_a_search(strategy, answer, tmp_path, monkeypatch):
    """Evolution: the best of the last generation; random search: the best of all, the first that reached it."""
    scores = iter([10.0, 70.0, 20.0, 70.0, 30.0, 5.0])
    monkeypatch.setattr(search, "descend", lambda *_: 1.0)
    monkeypatch.setattr(search, "measure", lambda *_: None)
    monkeypatch.setattr(search, "measured_at", lambda settings, individuals: list(range(len(individuals))))
    monkeypatch.setattr(search, "score", lambda counter: [next(scores), 90.0, 1.0])
    settings = SearchNB201(
        **{**FEW, "tournament": 1, "generations": 3}, cells_per_stage=1, dataset="digits", strategy=strategy,
        train_images=64, fitness_images=64, mutation_rate=1.0,
    )  # fmt: skip
    found = search.search(settings, options(tmp_path))
    metrics, cell = found["metrics"], {"last": found["last_generation_best"], "best": found["best_so_far"]}
    assert (metrics["fitness_last_percent"], metrics["fitness_best_percent"]) == (30.0, 70.0)
    assert metrics["best_generation"] == 0 and cell["last"] != cell["best"] and found["architecture"] == cell[answer]
    assert metrics["fitness_chosen_percent"] == metrics[f"fitness_{answer}_percent"]
    with (tmp_path / "history.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [float(row["best_so_far"]) for row in rows] == [70.0, 70.0, 70.0]
    assert [float(row["fitness_worst"]) for row in rows] == [10.0, 20.0, 5.0]


def test_training_is_the_plain_loop(tmp_path, monkeypatch):
    """Three epochs of the CIFAR recipe: momentum, decay, clip, rates, drop path, images and their augmentation."""
    sets = {"train": noise(70), "test": noise(90, seed=1)}
    monkeypatch.setattr(training_data, "open_images", lambda name, part, options: sets[part])
    settings = Train(
        **{**TRAIN, "train_images": 50, "batch_size": 20, "epochs": 3}, lr=0.03, momentum=0.8, weight_decay=0.1,
        clip=0.7, drop_path=0.4, eval_batch_size=40,
    )  # fmt: skip
    result = train(settings, train_options(tmp_path))
    seeds.seed_everything(0)
    model = build(load_genotype("EvNASA"), False, 10, 4, 3)
    batches = Batches(sets["train"].subset(range(50)), 20, Augmentation(*CIFAR, pad=2), Order(0))
    x, y = next(Batches(sets["test"], 90, Augmentation(*CIFAR), Order(0, shuffle=False)).epoch(0))
    sgd = PlainSGD(model.parameters(), 0.8, 0.1, 0.7)

    def tests(model):
        return [float(cross_entropy(logits := model(x)[0], y)), float((logits.argmax(1) != y).float().mean())]

    found = plain_training(
        model, 3, batches.epoch, lambda epoch: cosine(0.03, 0.0, epoch, 3), sgd, 0.4,
        lambda logits, auxiliary, y: cross_entropy(logits, y), tests,
    )  # fmt: skip
    assert len(sgd.norms) == 9 and min(sgd.norms) > 0.7, sgd.norms
    same_weights(load_file(tmp_path / "weights.safetensors"), model)
    with (tmp_path / "history.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    for row, (loss, error) in zip(rows, found, strict=True):
        assert float(row["test_loss"]) == pytest.approx(loss, rel=1e-4)
        assert float(row["test_top1_error_percent"]) == pytest.approx(100 * error, abs=1e-3)
    assert result["metrics"]["last_top1_error_percent"] == pytest.approx(100 * found[-1][1], abs=1e-3)
