"""Both phases of the search against a second one, written plainly: every loss, error, rate and choice.

Of the method only what has golden values of its own is used: the supernet and its optimiser's rule for unused
operations, the sampler of paths, the look-up table, the generator's network and the priors.
"""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from scipy.stats import kendalltau

from common.cli.verbs import RunOptions
from common.data.augment import Augmentation, draw, transform
from common.data.sets import Images, open_images
from common.run import seeds
from common.run.folder import Run
from papers.sgnas.data import sets as datasets
from papers.sgnas.method.generator import Generator
from papers.sgnas.method.lookup import macs_table
from papers.sgnas.method.prior import make_pool, nearest_key
from papers.sgnas.method.sampling import sample_paths, trained_code
from papers.sgnas.method.scoring import recalibrated
from papers.sgnas.method.supernet_training import PathSGD
from papers.sgnas.networks.architectures import macro_for, ops_of
from papers.sgnas.networks.supernet import Supernet
from papers.sgnas.search import search
from papers.sgnas.settings import Search

SEED = 2
MACRO = macro_for("tiny", 16)
KEPT = Augmentation((0.49139968, 0.48215827, 0.44653124), (0.2023, 0.1994, 0.2010), pad=2, flip=True)
SEARCH = Search(
    dataset="cifar10", macro="tiny", train_portion=0.5, train_images=20, search_images=16, batch_size=10, parts=0,
    supernet_epochs=2, cosine_epochs=3, paths=3, lr=0.1, momentum=0.8, weight_decay=0.01, label_smoothing=0.3,
    generator_epochs=4, low_mflops=0.8, high_mflops=1.4, target_step=0.25, target_noise=0.05, validation_step=0.2,
    alpha=5.0, loss_penalty=3.0, accept_loss=0.5, tau=1.0, tau_decay=0.5, generator_lr=0.02, constraint_channels=3,
    width=6, generator_layers=3, pool_size=2, prior_seed=7, prior_tolerance=0.05, targets=(1.3, 0.9),
)  # fmt: skip
OTHER = {
    "active": "prefix", "targets_per_step": 2, "recalibrate_batches": 1, "zero_grad": "none", "switchable_bn": False,
    "accept_loss": 1e-9, "bn_momentum": 0.3, "supernet_epochs": 1, "generator_epochs": 3,
}  # fmt: skip


def pictures() -> Images:
    """Digits of 16 x 16 pixels under the name of CIFAR-10, whose recipe they get."""
    images = open_images("digits", "train", RunOptions())
    small = F.avg_pool2d(images.pixels.float(), 2).round().byte()
    return replace(images, pixels=small, name="cifar10").subset(range(120))


def batches(images: Images, size: int, stream: str, epoch: int):
    """An epoch in a new order, cropped from 20 pixels, mirrored, normalised; the last batch may be smaller."""
    order = torch.randperm(len(images), generator=seeds.generator(SEED, stream, "order", epoch))
    for number, at in enumerate(order.split(size)):
        chance = seeds.generator(SEED, stream, "augment", epoch, number)
        yield transform(images.pixels[at], KEPT, draw(KEPT, len(at), 16, 16, chance)), images.labels[at]


def smoothed(logits: torch.Tensor, y: torch.Tensor, eta: float) -> torch.Tensor:
    logs = F.log_softmax(logits, 1)
    return -((1 - eta) * logs[torch.arange(len(y)), y] + eta * logs.mean(1)).mean()


class Plainly:
    """The method, step by step."""

    def __init__(self, c: Search) -> None:
        images = pictures()
        self.c, self.seen, self.held = c, images.subset(range(20)), images.subset(range(60, 76))
        self.table = macs_table(MACRO)
        rng = np.random.RandomState(c.prior_seed)
        self.priors = make_pool(self.table, c.low_mflops, c.high_mflops, c.pool_size, rng, c.prior_tolerance).priors
        self.rows: list[list[float]] = []
        self.fits: list[dict[str, Any]] = []

    def train_supernet(self) -> None:
        c, weights = self.c, seeds.generator(SEED, "supernet weights")
        self.net = Supernet(MACRO, 10, c.bn_momentum, weights, c.switchable_bn)
        sgd = PathSGD(self.net, c.momentum, c.weight_decay, c.zero_grad)
        for epoch in range(c.supernet_epochs):
            losses = []
            self.net.train()
            for step, (x, y) in enumerate(batches(self.seen, c.batch_size, "supernet", epoch)):
                paths = sample_paths(seeds.numpy_rng(SEED, "paths", epoch, step), 5, c.paths, c.active)
                for p in self.net.parameters():
                    p.grad = torch.zeros_like(p)
                for path in paths:
                    loss = smoothed(self.net(x, path), y, c.label_smoothing)
                    loss.backward()
                    losses.append(loss.item())
                sgd.step(c.lr * (1 + math.cos(math.pi * (epoch * 2 + step) / (c.cosine_epochs * 2))) / 2, paths)
            paths = sample_paths(seeds.numpy_rng(SEED, "validation paths", epoch), 5, 2, c.active)
            self.rows.append([epoch, np.mean(losses), *self.judged(self.net, paths, epoch)])

    @torch.no_grad()
    def judged(self, net: Supernet, paths: list, epoch: int) -> tuple[float, float]:
        """(smoothed loss, error in percent) on the generator's images; a path for every batch."""
        losses, wrong = 0.0, 0
        net.eval()
        for (x, y), path in zip(batches(self.held, self.c.batch_size, "validation", epoch), paths, strict=True):
            logits = net(x, path)
            losses += float(smoothed(logits, y, 0.1)) * len(y)
            wrong += int((logits.argmax(1) != y).sum())
        return losses / len(self.held), 100 * wrong / len(self.held)

    def logits(self, generator: Generator, targets: list[float]) -> torch.Tensor:
        c, priors = self.c, [self.priors[nearest_key(t, list(self.priors))] for t in targets]
        place = (torch.tensor(targets) - c.low_mflops) / (c.high_mflops - c.low_mflops)
        out = generator(place, torch.stack(priors)).clone()
        out[:, :, 0, 3] = -torch.inf  # the first sub-block never skips
        return out

    def hardware(self, cost: torch.Tensor, targets: list[float]) -> torch.Tensor:
        miss = cost - torch.tensor(targets)
        weight = torch.where(miss > 0.1, self.c.alpha * self.c.loss_penalty, self.c.alpha * (miss < -0.1))
        return weight * miss**2

    def targets(self, number: int) -> list[float]:
        """0.8, 1.05, 1.3 in a new order every round, each with its noise."""
        c, found, pool = self.c, [], [0.8, 1.05, 1.3]
        for n in range(number * c.targets_per_step, (number + 1) * c.targets_per_step):
            order = seeds.numpy_rng(SEED, "target pool", n // 3).permutation(3)
            noise = seeds.numpy_rng(SEED, "target noise", n).uniform(-c.target_noise, c.target_noise)
            found.append(pool[order[n % 3]] + float(noise))
        return found

    def soft(self, x: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        from papers.sgnas.method.sampling import trained_parameters
        from papers.sgnas.networks.fixed_supernet import FixedSupernet

        return FixedSupernet(self.net.eval()).soft(x, trained_parameters(p, self.c.active))

    def train_generator(self) -> Generator:
        c = self.c
        weights = seeds.generator(SEED, "generator weights")
        generator = Generator(c.constraint_channels, c.width, c.generator_layers, weights)
        adam = torch.optim.Adam(generator.parameters(), c.generator_lr, betas=(0.5, 0.999))
        for epoch in range(c.generator_epochs):
            tau, sums = c.tau * c.tau_decay**epoch, np.zeros(2)
            for step, (x, y) in enumerate(batches(self.held, c.batch_size, "generator", epoch)):
                number = epoch * 2 + step
                targets = self.targets(number)
                chance = seeds.generator(SEED, "gumbel", number)
                noise = -torch.log(-torch.log(torch.rand((len(targets), 5, 6, 4), generator=chance)))
                p = ((self.logits(generator, targets) + noise) / tau).softmax(-1)
                hardware = self.hardware(self.table.cost(p), targets).mean()
                entropy = torch.stack([smoothed(self.soft(x, each), y, c.label_smoothing) for each in p]).mean()
                adam.zero_grad()
                (hardware + entropy).backward()
                adam.step()
                sums += [entropy.item() / 2, hardware.item() / 2]
            self.after(generator, epoch, tau, sums)
        accepted = [f for f in self.fits if f["total"] < c.accept_loss]
        self.best = min(accepted or self.fits, key=lambda f: f["error"] if accepted else f["total"])
        generator.load_state_dict(self.best["weights"])
        return generator

    @torch.no_grad()
    def after(self, generator: Generator, epoch: int, tau: float, sums: np.ndarray) -> None:
        """The network of the middle target; the hardware loss of 0.8, 1.0, 1.2."""
        c, net = self.c, self.net
        path = trained_code(self.logits(generator, [1.1])[0].argmax(-1).tolist(), c.active)
        if c.recalibrate_batches:

            class Seen:
                @staticmethod
                def epoch(number: int):
                    return batches(self.seen, c.batch_size, "supernet", number)

            net = recalibrated(net, path, Seen, c.recalibrate_batches)
        loss, error = self.judged(net, [path] * 2, epoch)
        total, costs = self.fit(generator)
        tau_b = kendalltau([0.8, 1.0, 1.2], costs).statistic if len(set(costs)) > 1 else 0.0
        self.rows.append([epoch, *sums, loss, error, total, tau_b, tau])
        weights = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
        self.fits.append({"total": total, "error": error, "weights": weights, "epoch": epoch})

    @torch.no_grad()
    def fit(self, generator: Generator) -> tuple[float, list[float]]:
        grid = [0.8, 1.0, 1.2]
        costs = self.table.cost(F.one_hot(self.logits(generator, grid).argmax(-1), 4).float())
        return float(self.hardware(costs, grid).sum()), costs.tolist()


def held(file: Path, phase: str, columns: tuple[str, ...]) -> list[list[float]]:
    with file.open() as lines:
        return [[float(row[c]) for c in columns] for row in csv.DictReader(lines) if row["phase"] == phase]


JUDGED = ("valid_loss", "valid_top1_error_percent")


@pytest.mark.parametrize("changes", [{}, OTHER], ids=["published", "other"])
def test_a_whole_search(tmp_path, monkeypatch, one_thread, changes):
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(datasets, "open_set", lambda *a: asked.append(a[:2]) or pictures())
    monkeypatch.setattr(Run, "write_state", lambda self, state: None)
    c = replace(SEARCH, **changes)
    result = search(c, RunOptions(out=tmp_path, device="cpu", paper="sgnas", section="search", seed=SEED))
    assert asked == [("cifar10", "train")]  # the test part is never read
    second = Plainly(c)
    second.train_supernet()
    first, end = second.rows, load_file(tmp_path / "supernet.safetensors")
    for name, value in second.net.state_dict().items():
        torch.testing.assert_close(end[name], value, rtol=1e-3, atol=1e-5, msg=name)
    second.rows = []
    generator = second.train_generator()
    np.testing.assert_allclose(held(tmp_path / "history.csv", "supernet", ("epoch", "loss", *JUDGED)), first, rtol=1e-4)
    columns = ("epoch", "loss", "hardware_loss", *JUDGED, "total_hardware_loss", "kendall_tau", "tau")
    rows = held(tmp_path / "history.csv", "generator", columns)
    np.testing.assert_allclose(rows, second.rows, rtol=2e-3, atol=1e-6)
    assert second.best["epoch"] < c.generator_epochs - 1  # neither the last nor what the other rule would choose
    end = load_file(tmp_path / "generator.safetensors")
    for name, value in generator.state_dict().items():
        if name != "tail.0.bias":  # shifts all logits alike: rounding
            torch.testing.assert_close(end[name], value, rtol=2e-2, atol=1e-3, msg=name)
    found = {row["target"]: (ops_of(row["kernels"]), row["lookup_cost"]) for row in result["architectures"]}
    assert list(found) == [0.9, 1.3]
    with torch.no_grad():
        ops = second.logits(generator, [0.9, 1.3]).argmax(-1)
    costs = second.table.cost(F.one_hot(ops, 4).float()).tolist()
    for row, cost, (kernels, said) in zip(ops.tolist(), costs, found.values(), strict=True):
        assert [sorted(layer) for layer in row] == [sorted(layer) for layer in kernels] and said == pytest.approx(cost)
    total, _ = second.fit(generator)
    assert result["metrics"]["total_hardware_loss"] == pytest.approx(total)
    misses = [abs(cost - target) for cost, target in zip(costs, (0.9, 1.3))]
    assert result["metrics"]["largest_miss"] == pytest.approx(max(misses))
    assert result["architecture"]["kernels"] == result["architectures"][1]["kernels"]
