"""What the searches in the DARTS space and the training of a CNN read and do, against second loops."""

from __future__ import annotations

import copy
import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from common.data.augment import Augmentation
from common.data.batches import Batches, Order
from common.run import seeds
from common.spaces.darts import data as training_data
from common.spaces.darts.network import derived
from common.spaces.darts.supernet import Supernet
from papers.nsas import data, search_gdas, search_random
from papers.nsas.method.architect import plain_gradient, table_loss, unrolled_gradient
from papers.nsas.method.novelty import Archive, distance
from papers.nsas.method.relaxation import relaxed_one_hot
from papers.nsas.method.sampling import decode_top2, sample_distinct, sample_free
from papers.nsas.networks.architectures import load_genotype
from papers.nsas.networks.paths import logits_function
from papers.nsas.train import train
from tests.nsas.small import GDAS, RANDOM, TRAIN_CNN, options
from tests.plain_loops import PlainSGD, cosine, noise, numbered, places, plain_training, same_weights

CIFAR = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
on_path = logits_function("raw", statistics=True)  # equal to all operations run: test_equal_forms.py
MOVED = {"momentum": 0.8, "weight_decay": 0.1, "lr": 0.03, "clip": 0.2}


def rows_of(folder) -> list[dict[str, str]]:
    with (folder / "history.csv").open() as lines:
        return list(csv.DictReader(lines))


def smoothed(logits, y, share: float):
    """0.9 of the one-hot target and 0.1 over all classes."""
    logs = logits.log_softmax(1)
    return -((1 - share) * logs.gather(1, y[:, None])[:, 0] + share * logs.mean(1)).mean()


@pytest.mark.parametrize("shifted", [False, True])
def test_training_is_the_plain_loop(shifted, tmp_path, monkeypatch):
    """Three epochs: momentum, decay, clip, rates, drop path, smoothed labels (in training only), images."""
    sets = {"train": noise(60), "test": noise(90, seed=1)}
    monkeypatch.setattr(training_data, "open_images", lambda name, part, options: sets[part])
    settings = replace(
        TRAIN_CNN, **MOVED, train_images=40, batch_size=20, channels=4, epochs=3, eval_every=1, eval_batch_size=40,
        drop_path=0.4, cutout=2, label_smoothing=0.2, lr_min=0.01, shifted_lr=shifted,
    )  # fmt: skip
    result = train(settings, options(tmp_path, "train"))
    seeds.seed_everything(0)
    model = derived(load_genotype("Random_NSAS"), False, 10, 4, 3, False)
    batches = Batches(sets["train"].subset(range(40)), 20, Augmentation(*CIFAR, pad=2, cutout=2), Order(0))
    x, y = next(Batches(sets["test"], 90, Augmentation(*CIFAR), Order(0, shuffle=False)).epoch(0))
    sgd = PlainSGD(model.parameters(), 0.8, 0.1, 0.2)

    def tests(model):
        return [float(cross_entropy(logits := model(x)[0], y)), float((logits.argmax(1) != y).float().mean())]

    found = plain_training(
        model, 3, batches.epoch, lambda epoch: cosine(0.03, 0.01, epoch + shifted, 3), sgd, 0.4,
        lambda logits, auxiliary, y: smoothed(logits, y, 0.2), tests,
        lambda epoch, step: torch.manual_seed(seeds.integer(0, "drop-path", epoch, step)),
    )  # fmt: skip
    assert max(sgd.norms) > 0.4
    same_weights(load_file(tmp_path / "weights.safetensors"), model)
    for row, (loss, error) in zip(rows_of(tmp_path), found, strict=True):
        assert float(row["test_loss"]) == pytest.approx(loss, rel=1e-4)
        assert float(row["test_top1_error_percent"]) == pytest.approx(100 * error, abs=1e-3)
    assert result["metrics"]["top1_error_percent"] == pytest.approx(100 * found[-1][1], abs=1e-3)


def halves_of_noise(monkeypatch, count: int):
    """The first ``count`` pictures of a set in their halves, as the searches read them."""
    whole = noise(count + 6)
    monkeypatch.setattr(data, "open_images", lambda name, part, options: whole if part == "train" else None)
    return whole.subset(range(count // 2)), whole.subset(range(count // 2, count))


def noted(monkeypatch, module) -> list:
    """The supernets that the module builds."""
    built, make = [], module.build_supernet
    monkeypatch.setattr(module, "build_supernet", lambda *sizes: built.append(make(*sizes)) or built[-1])
    return built


def copy_loss(model, x, y, architecture) -> float:
    """The loss of an architecture on a copy, whose statistics are its own."""
    copied = copy.deepcopy(model).train()
    with torch.no_grad():
        return float(cross_entropy(on_path(copied, x, architecture), y))


@pytest.mark.parametrize("gradient", [True, False])
def test_random_search_is_the_plain_loop(gradient, tmp_path, monkeypatch):
    """Two epochs of two steps, then two rounds of two candidates: archive, loss, step, rates, images, winners."""
    first, second = halves_of_noise(monkeypatch, 24)
    settings = replace(
        RANDOM, **MOVED, train_images=24, lr_min=0.01, mix=0.3, constraints=2, recent=3,
        constraint_gradient=gradient, select_rounds=2, select_candidates=2, select_images=10, select_batch_size=6,
    )  # fmt: skip
    built = noted(monkeypatch, search_random)
    result = search_random.search(settings, options(tmp_path))

    seeds.seed_everything(0)
    model, augmentation = Supernet(2, 10, 3), Augmentation(*CIFAR, pad=2)
    sgd, rng = PlainSGD(model.parameters(), 0.8, 0.1, 0.2), seeds.numpy_rng(0, "first")
    archives = [Archive(2, 3, recent=[sample_free(rng)]) for _ in range(2)]
    train, rows = Batches(first, 6, augmentation, Order(0)), rows_of(tmp_path)
    for epoch in range(2):
        totals, right = [], 0
        for step, (x, y) in enumerate(train.epoch(epoch)):
            rng = seeds.numpy_rng(0, "architecture", epoch, step)
            current = sample_free(rng), sample_free(rng)
            for archive, cell in zip(archives, current, strict=True):
                archive.update(cell, lambda rng=rng: sample_free(rng))
            constraints = list(zip(*(archive.members for archive in archives), strict=True))
            assert len(constraints) == min(2, 2 * epoch + step + 1)
            model.train()
            logits = on_path(model, x, current)
            right += int((logits.argmax(1) == y).sum())
            if gradient:
                others = [cross_entropy(on_path(model, x, a), y) for a in constraints]
            else:
                others = [copy_loss(model, x, y, a) for a in constraints]
            loss = 0.7 * cross_entropy(logits, y) + 0.3 * sum(others) / len(others)
            totals.append(float(loss.detach()))
            gradients = torch.autograd.grad(loss, sgd.tensors, allow_unused=True)
            filled = [torch.zeros_like(w) if g is None else g for w, g in zip(sgd.tensors, gradients)]
            sgd.step(filled, cosine(0.03, 0.01, epoch, 2))
        assert float(rows[epoch]["lr"]) == pytest.approx(cosine(0.03, 0.01, epoch, 2))
        assert float(rows[epoch]["loss"]) == pytest.approx(np.mean(totals), rel=1e-3)
        assert float(rows[epoch]["train_top1_percent"]) == pytest.approx(100 * right / 12)
    assert max(sgd.norms) > 0.4
    same_weights(built[0].state_dict(), model, 3e-3)

    order, winners = Order(0, "valid", shuffle=False), []
    valid = Batches(second.subset(range(10)), 6, augmentation, order, augment=True)
    for number in range(2):
        rng, scored = seeds.numpy_rng(0, "select", number), []
        for k in range(2):
            architecture = sample_free(rng), sample_free(rng)
            model.eval()
            with torch.no_grad():
                hits = [on_path(model, x, architecture).argmax(1) == y for x, y in valid.epoch(2 * number + k)]
            scored.append(10.0 * float(torch.cat(hits).sum()))
        winners.append(max(scored))
    assert [score for _, score in result["winners"]] == winners
    assert result["metrics"]["supernet_accuracy_percent"] == max(winners)
    best = next(cells for cells, score in result["winners"] if score == max(winners))
    assert result["architecture"] == best


@pytest.mark.parametrize("semantics", ["2019", "head"])
def test_gdas_is_the_plain_loop(semantics, tmp_path, monkeypatch):
    """Two epochs of two steps: the step of the tables before that of the weights, draws, archive, loss, cell."""
    head = semantics == "head"
    first, second = halves_of_noise(monkeypatch, 24)
    settings = replace(
        GDAS, **MOVED, train_images=24, lr_min=0.01, mix=0.5 if head else 0.3, constraints=8 if head else 2,
        semantics=semantics, arch_lr=0.05, weighted=head,
    )  # fmt: skip
    built = noted(monkeypatch, search_gdas)
    result = search_gdas.search(settings, options(tmp_path, "search_gdas"))

    seeds.seed_everything(0)
    model, augmentation = Supernet(2, 10, 3), Augmentation(*CIFAR, pad=2)
    learned = [(1e-3 * torch.randn(14, 8)).requires_grad_() for _ in range(2)]
    used = list(learned)
    adam = torch.optim.Adam(learned, 0.05, betas=(0.5, 0.999), weight_decay=1e-3)
    sgd = torch.optim.SGD(model.parameters(), 0.03, momentum=0.8, weight_decay=0.1)
    loss_of, rng = table_loss(model, "raw"), seeds.numpy_rng(0, "first")
    archives = [Archive(settings.constraints, 50, recent=[sample_distinct(rng)]) for _ in range(2)]
    train, valid = (Batches(s, 6, augmentation, Order(0, n)) for s, n in ((first, "train"), (second, "valid")))
    for epoch in range(2):
        sgd.param_groups[0]["lr"], totals = cosine(0.03, 0.01, epoch, 2), []
        for step, batch in enumerate(train.epoch(epoch)):
            model.train()
            held = [next(iter(valid.epoch(2 * epoch + step)))]
            if head:
                gradients = plain_gradient(loss_of, model, used, held)
            else:
                gradients = unrolled_gradient(loss_of, model, used, [batch], held, sgd)
            for table, in_use, g in zip(learned, used, gradients, strict=True):
                table.grad = g if table is in_use else torch.zeros_like(table)
            adam.step()
            chance, temperature = seeds.generator(0, "gumbel", epoch, step), 0.5 * np.exp(-0.1 * step)
            drawn = [relaxed_one_hot(t.detach(), torch.rand(14, 8, generator=chance), temperature) for t in used]
            current = tuple(decode_top2(z.numpy()) for z in drawn)
            rng = seeds.numpy_rng(0, "archive", epoch, step)
            for archive, cell in zip(archives, current, strict=True):
                archive.update(cell, lambda rng=rng: sample_distinct(rng))
            constraints = list(zip(*(archive.members for archive in archives), strict=True))
            x, y = batch
            others = [] if head else [copy_loss(model, x, y, a) for a in constraints]
            loss = cross_entropy(on_path(model, x, current), y)
            loss = loss if head else 0.7 * loss + 0.3 * sum(others) / len(others)
            totals.append(float(loss.detach()))
            model.zero_grad()
            loss.backward()
            for p in model.parameters():
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.2)
            sgd.step()
            if head:
                used = [z.clone().requires_grad_() for z in drawn]
        assert float(rows_of(tmp_path)[epoch]["loss"]) == pytest.approx(np.mean(totals), rel=1e-3)
    same_weights(built[0].state_dict(), model, 3e-3)
    for found, table in zip(result["tables"], used, strict=True):
        np.testing.assert_allclose(found, table.detach().numpy(), atol=2e-3)
    assert distance(eval(rows_of(tmp_path)[-1]["cell"])[0], decode_top2(np.array(result["tables"][0]))) == 0


@pytest.mark.parametrize("module", [search_random, search_gdas])
def test_the_images_of_a_search(module, tmp_path, monkeypatch):
    """The first half in file order trains; the last chooses the cell, or moves the tables and measures the cell."""
    monkeypatch.setattr(data, "open_images", lambda name, part, options: numbered(80, "cifar10"))
    plain = lambda images: Augmentation(*CIFAR)
    monkeypatch.setattr(module, "augmentation", plain)
    trained, moved, measured = [], [], []

    def differentiate(loss_of, model, shares, cells, sums, **where):
        trained.extend(places(shares[0][0], *CIFAR))
        sums.add(1.0)
        sums.images += 1

    def accuracy(model, architecture, logits_of, valid, number):
        measured.append(sorted(k for x, _ in valid.epoch(number) for k in places(x, *CIFAR)))
        return float(len(measured))

    def gradient(loss, model, tables, shares, held, optimizer):
        moved.extend(places(held[0][0], *CIFAR))
        return [torch.zeros_like(t) for t in tables]

    monkeypatch.setattr(module, "differentiate", differentiate)
    monkeypatch.setattr(module, "accuracy", accuracy)
    settings = replace(GDAS if module is search_gdas else RANDOM, dataset="cifar10", train_images=0, epochs=1)
    if module is search_gdas:
        monkeypatch.setattr(module, "unrolled_gradient", gradient)
        module.search(settings, options(tmp_path))
        assert len(moved) == 7 * 6 and min(moved) >= 40 and measured == [list(range(40, 80))]
    else:
        found = module.search(replace(settings, select_images=20), options(tmp_path))
        assert measured == [list(range(40, 60))] * 2 and found["winners"][0][1] == 2.0
    assert sorted(trained) == list(range(40))
