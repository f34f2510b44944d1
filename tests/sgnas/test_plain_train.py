"""``train`` against a second one, written plainly; which images a search reads; the published settings typed again."""

from __future__ import annotations

import copy
import csv
import math
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from common.cli.verbs import RunOptions
from common.data.augment import plain
from common.data.sets import Images, open_images
from common.run import seeds
from common.run.folder import Run
from papers.sgnas import train as stage
from papers.sgnas.data import sets as datasets
from papers.sgnas.data.search_data import open_search_data
from papers.sgnas.networks.architectures import macro_for
from papers.sgnas.networks.derived import Network
from papers.sgnas.networks.published_keys import to_published
from papers.sgnas.settings import (
    CIFAR_GENERATOR,
    CIFAR_SEARCH,
    CIFAR_SUPERNET,
    CIFAR_TRAIN,
    Search,
    SearchGenerator,
    SearchSupernet,
    Train,
)
from tests.sgnas import test_plain_search as plainly

KERNELS = [[3], [5, 3], [7], [3, 5], [3]]
TRAIN = Train(
    arch="[[3],[5,3],[7],[3,5],[3]]", dataset="cifar10", macro="tiny", parts=0, epochs=4, batch_size=20, lr=0.05,
    train_images=50, weight_decay=0.05, momentum=0.8, bn_momentum=0.2, dropout=0.3, label_smoothing=0.2, ema_decay=0.6,
    warmup_lr=0.02, warmup_epochs=2, decay_epochs=2.0, decay_rate=0.5,
)  # fmt: skip
CIFAR = {
    "optimizer": "sgd", "schedule": "cosine", "warmup_epochs": 0, "ema_decay": 0.0, "se": False, "activation": "relu",
    "smoothed_test_loss": True, "lr": 0.02, "decay_epochs": 3.0, "decay_rate": 0.963, "warmup_lr": 1e-4,
}  # fmt: skip


class Rms:
    """RMSprop: s from 1, epsilon 0.001 inside the root, the rate inside the momentum; no decay of vectors."""

    def __init__(self, network: Network, c: Train) -> None:
        self.c, self.state = c, [(p, torch.ones_like(p), torch.zeros_like(p)) for p in network.parameters()]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for p, s, b in self.state:
            g = p.grad + (self.c.weight_decay * p if p.dim() > 1 else 0)
            s += 0.1 * (g * g - s)
            b.mul_(self.c.momentum).add_(rate * g / (s + 0.001).sqrt())
            p -= b


class Sgd:
    """Momentum, decay of everything."""

    def __init__(self, network: Network, c: Train) -> None:
        self.c, self.state = c, [(p, torch.zeros_like(p)) for p in network.parameters()]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for p, b in self.state:
            b.mul_(self.c.momentum).add_(p.grad + self.c.weight_decay * p)
            p -= rate * b


def errors(c: Train, network: Network, images: Images) -> tuple[float, float, float]:
    """(loss, top-1 error, top-5 error) in eval mode, of all images as they are."""
    x = plain(images.pixels, plainly.KEPT)
    with torch.no_grad():
        logits = network.eval()(x)
    best = logits.topk(5, 1).indices == images.labels[:, None]
    top = [100 * float(1 - best[:, :k].any(1).double().mean()) for k in (1, 5)]
    loss = plainly.smoothed(logits, images.labels, c.label_smoothing if c.smoothed_test_loss else 0.0)
    return float(loss), top[0], top[1]


def rates(c: Train, epoch: int, step: int) -> float:
    if c.schedule == "cosine":
        return 0.02 * (1 + math.cos(math.pi * (3 * epoch + step) / 12)) / 2
    return [0.02, 0.035, 0.025, 0.025][epoch]


@pytest.mark.parametrize("kind", ["imagenet", "cifar", "folder"])
def test_a_whole_training(tmp_path, monkeypatch, one_thread, kind):
    """Rates, losses, averaged weights that are judged and written: of the best epoch, not of the last."""
    c = replace(TRAIN, **(CIFAR if kind == "cifar" else {}))
    whole, asked = plainly.pictures(), []
    parts = {"train": whole.subset(range(60)), "test": whole.subset(range(60, 95)), "val": whole.subset(range(95, 120))}
    monkeypatch.setattr(datasets, "open_set", lambda name, split, _: asked.append(split) or parts[split])
    monkeypatch.setattr(stage, "has_validation", lambda name: kind == "folder")
    monkeypatch.setattr(stage, "in_file_order", lambda images: kind == "cifar")
    monkeypatch.setattr(Run, "write_state", lambda self, state: None)
    seed = {"imagenet": 1, "cifar": 2, "folder": 3}[kind]
    options = RunOptions(out=tmp_path, device="cpu", paper="sgnas", section="train", seed=seed)
    metrics = stage.train(c, options)["metrics"]
    assert asked == (["train", "test", "val"] if kind == "folder" else ["train", "test"])
    train, judge = parts["train"].subset(range(50)), parts["val" if kind == "folder" else "test"]
    monkeypatch.setattr(plainly, "SEED", seed)
    macro = macro_for("tiny", 16)

    def build() -> Network:
        told = (macro, KERNELS, 10, c.se, c.activation, 0.2, 0.3)
        return Network(*told, seeds.generator(seed, "weights"))

    network = build()
    optimizer = (Sgd if kind == "cifar" else Rms)(network, c)
    torch.manual_seed(seeds.integer(seed, "dropout", 0))
    averaged = build() if c.ema_decay else copy.deepcopy(network)
    averaged.load_state_dict(network.state_dict())
    history, found = [], []
    for epoch in range(4):
        losses: list[float] = []
        network.train()
        for step, (x, y) in enumerate(plainly.batches(train, 20, "train", epoch)):
            if len(y) < 20 and kind != "cifar":
                continue  # a last, smaller batch is left out
            network.zero_grad()
            loss = plainly.smoothed(network(x), y, 0.2)
            loss.backward()
            optimizer.step(rates(c, epoch, step))
            losses += [loss.item()] * len(y)
            now = network.state_dict()
            for name, value in averaged.state_dict().items():
                share = 1 - c.ema_decay
                value.copy_((value * c.ema_decay + now[name] * share).to(value.dtype))
        measured = errors(c, averaged, judge)
        weights = {name: value.clone() for name, value in averaged.state_dict().items()}
        found.append((measured[1], epoch, measured[2], weights))
        history.append([epoch, rates(c, epoch, 0), sum(losses) / len(losses), *measured])
    best = min(found, key=lambda f: f[:2])
    assert best[1] < 3, [f[:2] for f in found]
    part = "valid" if kind == "folder" else "test"
    columns = ("epoch", "lr", "train_loss", f"{part}_loss", f"{part}_top1_error_percent", f"{part}_top5_error_percent")
    with (tmp_path / "history.csv").open() as lines:
        for row, want in zip(csv.DictReader(lines), history, strict=True):
            assert [float(row[column]) for column in columns] == pytest.approx(want, rel=2e-3)
    end = load_file(tmp_path / "weights.safetensors")
    for name, value in to_published(best[3], network).items():
        torch.testing.assert_close(end[name].to(value.dtype), value, rtol=1e-2, atol=1e-3, msg=name)
    want = {"best_epoch": best[1]}
    if kind == "folder":
        want |= {"valid_top1_error_percent": best[0], "last_top1_error_percent": errors(c, averaged, parts["test"])[1]}
        averaged.load_state_dict(best[3])
        _, want["top1_error_percent"], want["top5_error_percent"] = errors(c, averaged, parts["test"])
    else:
        want |= {"top1_error_percent": best[0], "top5_error_percent": best[2]}
        want["last_top1_error_percent"] = found[-1][0]
    assert {name: metrics[name] for name in want} == pytest.approx(want)


def test_which_images_a_search_reads(monkeypatch):
    """The first ones train the supernet, others the generator, which is judged on the latter; never the test part."""
    images, asked, made = open_images("digits", "train", RunOptions()), [], {}
    monkeypatch.setattr(datasets, "open_set", lambda *a: asked.append(a[:2]) or images)
    real = datasets.Loaders.__call__

    def spied(self: Any, part: Images, size: int, use: str, stream: str, **more: Any) -> Any:
        made[stream] = (part.pixels, size, use, more)
        return real(self, part, size, use, stream, **more)

    monkeypatch.setattr(datasets.Loaders, "__call__", spied)
    c = Search(dataset="digits", train_portion=0.8, search_images=0, batch_size=50, train_images=700, macro="tiny")
    open_search_data(c, RunOptions(device="cpu"), parts=2)
    cut = len(images) * 8 // 10
    expected = {
        "supernet": (images.pixels[:700], 50, "search", {"parts": 2}),
        "generator": (images.pixels[cut:], 50, "validation", {}),
        "validation": (images.pixels[cut:], 50, "validation", {}),
    }  # fmt: skip
    assert asked == [("digits", "train")] and made.keys() == expected.keys()
    for stream, (pixels, *rest) in expected.items():
        assert torch.equal(made[stream][0], pixels) and list(made[stream][1:]) == rest, stream


def test_defaults():
    """The published runs' settings, typed a second time."""
    shared = {
        "dataset": "imagenet", "macro": "auto", "workers": 16, "train_images": 0, "batch_size": 128,
        "label_smoothing": 0.1, "train_portion": 1.0, "search_images": 50_000, "supernet": "", "active": "random",
        "switchable_bn": True,
    }  # fmt: skip
    supernet = {
        **shared, "parts": 4, "supernet_epochs": 50, "paths": 4, "zero_grad": "zeros", "lr": 0.064, "momentum": 0.9,
        "weight_decay": 4e-4, "cosine_epochs": 50, "bn_momentum": 0.1,
    }  # fmt: skip
    generator = {
        **shared, "generator_epochs": 50, "low_mflops": 270.0, "high_mflops": 450.0, "target_step": 5.0,
        "target_noise": 0.5, "validation_step": 10.0, "alpha": 0.0003, "loss_penalty": 1.2, "accept_loss": 0.4,
        "tau": 5.0, "tau_decay": 0.95, "generator_lr": 0.001, "targets_per_step": 1, "constraint_channels": 10,
        "width": 32, "generator_layers": 5, "pool_size": 1, "prior_seed": 42, "prior_tolerance": 1.0, "prior_pool": "",
        "latency_table": "", "recalibrate_batches": 0, "targets": (275.0, 320.0, 365.0),
    }  # fmt: skip
    assert asdict(SearchSupernet()) == supernet
    assert asdict(SearchGenerator()) == generator
    assert asdict(Search()) == {**supernet, **generator}
    assert asdict(Train()) == {
        "dataset": "imagenet", "macro": "auto", "workers": 8, "train_images": 0, "batch_size": 256,
        "label_smoothing": 0.1, "parts": 4, "arch": "SGNAS-B", "checkpoint": "", "se": True, "activation": "hswish",
        "bn_momentum": 0.001, "dropout": 0.2, "epochs": 500, "optimizer": "rmsproptf", "lr": 0.016, "momentum": 0.9,
        "weight_decay": 1e-5, "schedule": "step", "decay_epochs": 3.0, "decay_rate": 0.963, "warmup_lr": 1e-4,
        "warmup_epochs": 5, "ema_decay": 0.99995, "smoothed_test_loss": False,
    }  # fmt: skip
    parts = {"dataset": "cifar100", "train_portion": 0.8, "search_images": 0, "batch_size": 512}
    first = {**parts, "supernet_epochs": 50, "cosine_epochs": 200}
    second = {**parts, "low_mflops": 80.0, "high_mflops": 120.0, "targets": (90.0, 100.0, 110.0)}
    assert (first, second, {**first, **second}) == (CIFAR_SUPERNET, CIFAR_GENERATOR, CIFAR_SEARCH)
    assert CIFAR_TRAIN == {
        "dataset": "cifar100", "se": False, "activation": "relu", "bn_momentum": 0.1, "epochs": 200, "batch_size": 512,
        "optimizer": "sgd", "lr": 0.064, "weight_decay": 4e-4, "schedule": "cosine", "warmup_epochs": 0,
        "ema_decay": 0.0, "smoothed_test_loss": True,
    }  # fmt: skip
