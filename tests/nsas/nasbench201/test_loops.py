"""Which images the searches on NAS-Bench-201 read, their rates over several epochs, and which cell they choose."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
import torch

from common.data.augment import Augmentation
from common.data.nasbench201 import halves, to_string
from common.run import seeds
from papers.nsas.nasbench201 import search_gdas, search_random
from papers.nsas.nasbench201 import supernet as opening
from papers.nsas.nasbench201.constraints import random_code, uniform
from tests.nsas.small import NB201_GDAS, NB201_RANDOM, options
from tests.plain_loops import cosine, numbered, places

CONSTANTS = tuple(v / 255 for v in (125.3, 123.0, 113.9)), tuple(v / 255 for v in (63.0, 62.1, 66.7))
FIRST, SECOND, _ = halves("cifar10", 100, 0)


@pytest.fixture
def trained(monkeypatch) -> list[list[int]]:
    """Places of the images of every step, which does nothing; 100 numbered images stand for CIFAR-10."""
    read: list[list[int]] = []

    def differentiate(loss_of, model, shares, cells, sums, *rest, **where):
        assert model.training and sum(p.grad is not None for p in model.parameters()) == 0
        read.append(places(shares[0][0], *CONSTANTS))
        sums.add(1.0)
        sums.images += 1

    monkeypatch.setattr(opening, "open_images", lambda name, part, options: numbered(100, name))
    monkeypatch.setattr(opening, "Augmentation", lambda mean, std, **_: Augmentation(mean, std))
    for module in (search_random, search_gdas):
        monkeypatch.setattr(module, "differentiate", differentiate)
    return read


def rows_of(folder, name: str = "history") -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open() as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("selection", ["released", "proper"])
def test_random(selection, trained, tmp_path, monkeypatch):
    """Half of the images trains; cells are scored on the other half in eval mode, a cell of its own for every batch
    (released), or one a pass (proper).
    """
    scored: list[tuple] = []

    def code_logits(model, x, code):
        assert not model.training
        scored.append((tuple(code), places(x, *CONSTANTS)))
        return torch.zeros(len(x), 10)

    monkeypatch.setattr(search_random, "code_logits", code_logits)
    settings = replace(
        NB201_RANDOM, dataset="cifar10", train_images=0, epochs=3, batch_size=25, lr=0.04, lr_min=0.01,
        epoch_candidates=0, select_candidates=3, select_images=20, select_batch_size=10, selection=selection,
    )  # fmt: skip
    search_random.search(settings, options(tmp_path, "search_nb201_random"))
    for epoch in range(3):
        assert sorted([*trained[2 * epoch], *trained[2 * epoch + 1]]) == FIRST.tolist()
        assert float(rows_of(tmp_path)[epoch]["lr"]) == pytest.approx(cosine(0.04, 0.01, epoch, 3))
    assert [images for _, images in scored] == [SECOND[:10].tolist(), SECOND[10:20].tolist()] * 3
    draw = uniform(seeds.numpy_rng(0, "select"))
    for number, row in enumerate(rows_of(tmp_path, "candidates")):
        own = random_code(draw)
        wanted = [own, own] if selection == "proper" else [random_code(draw), random_code(draw)]
        assert row["cell"] == "c" + "".join(map(str, own))
        assert [code for code, _ in scored[2 * number : 2 * number + 2]] == wanted
        right = 5.0 * sum(k % 10 == 0 for k in SECOND[:20])
        assert float(row["supernet_accuracy_percent"]) == pytest.approx(right)
        assert float(row["loss"]) == pytest.approx(torch.tensor(10.0).log().item())


def test_random_chooses_the_best_cell(trained, tmp_path, monkeypatch):
    cells = [(k,) * 6 for k in range(4)]
    scores = iter([(cells[0], 1.0, 5.0), (cells[1], 3.0, 9.0), (cells[2], 0.5, 9.0), (cells[3], 0.1, 1.0)])
    monkeypatch.setattr(search_random, "score_random_cell", lambda *_: next(scores))
    settings = replace(
        NB201_RANDOM, dataset="cifar10", train_images=0, epochs=1, batch_size=25, epoch_candidates=0,
        select_candidates=4,
    )  # fmt: skip
    found = search_random.search(settings, options(tmp_path, "search_nb201_random"))
    assert found["architecture"] == to_string(cells[1])
    assert found["metrics"]["supernet_accuracy_percent"] == 9.0


def test_gdas(trained, tmp_path, monkeypatch):
    """Half of the images trains the weights; alpha moves on images drawn from the other half."""
    held: list[int] = []

    def mean_gradients(model, shares, loss_of, tensors):
        held.extend(places(shares[0][0], *CONSTANTS))
        assert len(shares[0][1]) == 25
        return [torch.zeros_like(t) for t in tensors], 2.0

    counted = search_gdas.LossSums.read

    def read(sums, part="train"):
        sums.images = sums.images or 1
        return counted(sums, part)

    monkeypatch.setattr(search_gdas, "mean_gradients", mean_gradients)
    monkeypatch.setattr(search_gdas.LossSums, "read", read)
    settings = replace(
        NB201_GDAS, dataset="cifar10", train_images=0, epochs=3, batch_size=25, lr=0.04, lr_min=0.01
    )  # fmt: skip
    search_gdas.search(settings, options(tmp_path, "search_nb201"))
    rows = rows_of(tmp_path)
    for epoch, tau in enumerate((10.0, 5.05, 0.1)):
        assert sorted([*trained[2 * epoch], *trained[2 * epoch + 1]]) == FIRST.tolist()
        assert float(rows[epoch]["lr"]) == pytest.approx(cosine(0.04, 0.01, epoch, 3))
        assert float(rows[epoch]["tau"]) == pytest.approx(tau)
    assert len(held) == 6 * 25 and set(held) <= set(SECOND.tolist()) and len(set(held)) < len(held)
