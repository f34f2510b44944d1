"""The whole search against a second one, written plainly: every loss, score, pool, controller and final training.

Nothing of the method's loops is used here: the controller, operations on sequences and random streams only, which have
their own tests; a stand-in takes the place of the networks. The settings are small, and such that clipping acts, best
and last differ, and ramps outlast an epoch.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.cli.verbs import RunOptions
from common.data.augment import plain
from common.data.sets import Images
from common.run import seeds
from common.run.folder import Run
from papers.nao_v2 import search as search_module
from papers.nao_v2.method import balanced, pool
from papers.nao_v2.method.controller import Controller
from papers.nao_v2.networks.architectures import (
    Shape,
    from_tokens,
    random_architecture,
    swapped,
    text_of,
    to_tokens,
)
from papers.nao_v2.networks.operations import DropPath
from papers.nao_v2.networks.size import size_of
from papers.nao_v2.settings import Search
from tests.nao_v2.plainly import KEPT, Alone, batches, cosine, descend, errors_of, pictures
from tests.nao_v2.stand_in import StandIn

SEED = 3
SEARCH = Search(
    dataset="cifar10", valid_images=40, train_images=50, layers=2, channels=4, epochs=2, batch_size=30, lr=1.0,
    lr_min=0.25, momentum=0.8, weight_decay=0.02, clip=0.3, drop_path_keep=0.5, score_images=25, iterations=3,
    seed_architectures=11, new_architectures=3, controller_epochs=3, controller_batch_size=12, controller_lr=0.01,
    controller_embedding=4, controller_hidden=8, controller_clip=0.02, controller_copies=3, controller_weight_decay=0.1,
    trade_off=0.7, generation_seeds=5, maximum_step=30, on_empty="random", final=4, final_epochs=2, final_batch_size=20,
    final_dropout_keep=0.7, final_drop_path_keep=0.6,
)  # fmt: skip
OTHER = {
    "restart": "continue", "supernet_weights": "reset", "controller_weights": "reset", "zero_grad": "none",
    "sampling": "uniform", "drop_path_rule": "all_edges", "score_images": 0, "cutout": 8, "final": 1,
    "final_auxiliary": False, "final_drop_path_steps": 50, "canonical": True, "dropout_keep": 0.8, "momentum": 0.9,
    "controller_mlp_layers": 1, "clip": 0.05, "controller_mlp_hidden": 6, "controller_mlp_dropout": 0.3,
}  # fmt: skip


class Plainly:
    """The method, step by step; ``rows`` are what the files of the run must hold."""

    def __init__(self, c: Search, images: Images, seed: int = SEED) -> None:
        self.c, self.seed, self.rng = c, seed, np.random.RandomState(seed)
        self.rows: dict[str, list[list[float]]] = {name: [] for name in ("history", "pool", "controller", "final")}
        places = np.arange(len(images))
        self.rng.shuffle(places)
        self.train = images.subset(places[: -c.valid_images][: c.train_images])
        self.valid = images.subset(places[-c.valid_images :])
        self.shape = Shape(channels=c.channels, layers=c.layers)
        self.steps = math.ceil(len(self.train) / c.batch_size)
        self.steps_taken: list[list[int]] = []
        self.built: list[dict] = []
        self.sizes: list[list[int]] = []
        self.known: list[int] = []

    def search(self) -> None:
        c = self.c
        self.pool, self.scores, new = [], [], [random_architecture(self.rng, 5) for _ in range(c.seed_architectures)]
        self.fresh(0)
        self.controller, self.generated = self.new_controller(0), 0
        torch.manual_seed(seeds.integer(self.seed, "drop path", 0))
        for i in range(c.iterations):
            if i and c.supernet_weights == "reset":
                self.fresh(i)
            self.train_supernet(new, i)
            self.pool += new
            found = [self.score(i, number, a) for number, a in enumerate(self.pool)]
            order = np.argsort(-np.array(found), kind="stable")
            self.pool, self.scores = [self.pool[k] for k in order], [found[k] for k in order]
            self.rows["pool"].append([i, len(self.pool), self.scores[0], self.scores[-1], np.mean(found)])
            if i < c.iterations - 1:
                self.train_controller(i)
                new = self.generate()
                self.generated += len(new)
        self.final = [self.from_scratch(k, a) for k, a in enumerate(self.pool[: c.final])]

    def fresh(self, i: int) -> None:
        c, state = self.c, torch.get_rng_state()
        torch.manual_seed(seeds.integer(self.seed, "classifier bias", i))
        weights = seeds.generator(self.seed, "supernet", i)
        told = {"channels": 4, "layers": 2, "classes": 10, "space": "small", "dropout_keep": c.dropout_keep}
        self.net = StandIn(**told, generator=weights)
        self.built.append(self.net.told)
        torch.set_rng_state(state)
        self.sgd = torch.optim.SGD(self.net.parameters(), lr=1.0, momentum=c.momentum, weight_decay=c.weight_decay)

    def train_supernet(self, candidates, i: int) -> None:
        c, sizes = self.c, np.array([size_of(a, self.shape).parameters / 1e6 for a in candidates], dtype=np.float32)
        self.sizes.append([size_of(a, self.shape).parameters for a in candidates])
        p = sizes / sizes.sum() if c.sampling == "params" else None
        exempt = frozenset() if c.drop_path_rule == "all_edges" else frozenset({4})
        self.net.drop_path = DropPath(c.drop_path_keep, c.epochs * self.steps, 3 * c.layers + 2, exempt)
        for epoch in range(c.epochs):
            rate = cosine(c.lr, c.lr_min, epoch + (i * c.epochs if c.restart == "continue" else 0), c.epochs)
            self.net.train()
            losses, wrong = [], 0
            for step, (x, y) in enumerate(
                batches(self.train, c.batch_size, self.seed, "supernet", i * c.epochs + epoch, c.cutout)
            ):
                self.net.drop_path.step = epoch * self.steps + step
                logits = self.net(x, candidates[self.rng.choice(len(candidates), p=p)])
                loss = F.cross_entropy(logits, y)
                descend(self.net, self.sgd, loss, rate, c.clip, c.zero_grad == "none")
                losses += [loss.item()] * len(y)
                wrong += int((logits.argmax(1) != y).sum())
            row = [i * c.epochs + epoch, i, rate, len(candidates), np.mean(losses), 100 * wrong / len(losses)]
            self.rows["history"].append(row)

    @torch.no_grad()
    def score(self, i: int, number: int, architecture) -> float:
        self.net.eval()
        places = torch.arange(len(self.valid))
        if self.c.score_images:
            places = torch.randperm(len(self.valid), generator=seeds.generator(self.seed, "score", i, number))
        chosen = self.valid.subset(places[: self.c.score_images or None])
        found = self.net(plain(chosen.pixels, KEPT), architecture, bn_train=True).argmax(1)
        return float((found == chosen.labels).double().mean())

    def new_controller(self, i: int) -> Controller:
        state = torch.get_rng_state()
        torch.manual_seed(seeds.integer(self.seed, "controller", i))
        c, hidden = self.c, self.c.controller_mlp_hidden
        found = Controller(
            12, c.controller_embedding, c.controller_hidden, c.controller_mlp_layers, hidden, c.controller_mlp_dropout
        )
        torch.set_rng_state(state)
        return found

    def train_controller(self, i: int) -> None:
        c, low, high = self.c, self.scores[-1], self.scores[0]
        assert high > low
        order = np.arange(len(self.pool))
        self.rng.shuffle(order)
        cut = len(order) * 9 // 10
        pairs = [(to_tokens(self.pool[k]), (self.scores[k] - low) / (high - low)) for k in order]
        more = list(pairs[:cut])
        for _ in range(c.controller_copies - 1):
            more += [(swapped(t, self.rng.randint(0, 5), self.rng.randint(0, 5)), y) for t, y in pairs[:cut]]
        tokens, targets = torch.tensor([t for t, _ in more]), torch.tensor([y for _, y in more], dtype=torch.float32)
        if i and c.controller_weights == "reset":
            self.controller = self.new_controller(i)
        adam = torch.optim.Adam(self.controller.parameters(), c.controller_lr, weight_decay=c.controller_weight_decay)
        self.controller.train()
        for epoch in range(c.controller_epochs):
            order = torch.randperm(len(tokens), generator=seeds.generator(self.seed, "controller", i, epoch))
            sums = torch.zeros(3)
            for at in order.split(c.controller_batch_size):
                predicted, log = self.controller(tokens[at])
                mse = ((predicted[:, 0] - targets[at]) ** 2).mean()
                nll = -log.gather(2, tokens[at][..., None]).mean()
                loss = c.trade_off * mse + (1 - c.trade_off) * nll
                adam.zero_grad()
                loss.backward()
                assert (
                    torch.nn.utils.clip_grad_norm_(self.controller.parameters(), c.controller_clip) > c.controller_clip
                )
                adam.step()
                sums += torch.stack([loss, mse, nll]).detach() * len(at)
        self.held = torch.tensor([t for t, _ in pairs[cut:]]), [y for _, y in pairs[cut:]]
        last = [i * c.controller_epochs + c.controller_epochs - 1, i, c.controller_epochs - 1]
        self.rows["controller"].append([*last, *(sums / len(tokens)).tolist(), *self.quality()])

    @torch.no_grad()
    def quality(self) -> tuple[float, float]:
        """Pairs in the right order; tokens that differ, per sequence."""
        tokens, targets = self.held
        coder = self.controller.eval()
        outputs = coder.encoder.outputs(tokens)
        guess = coder.encoder.predict(outputs).flatten().tolist()
        back, _ = coder.decoder.free(coder.encoder.embed(outputs), outputs, 5)
        pairs = [(i, j) for j in range(len(guess)) for i in range(j)]
        right = [(targets[i] >= targets[j]) == (guess[i] >= guess[j]) for i, j in pairs]
        return sum(right) / len(right) if right else 0.0, float((back != tokens).sum(1).double().mean())

    def generate(self):
        c, coder, kept = self.c, self.controller.eval(), []
        outputs = coder.encoder.outputs(torch.tensor([to_tokens(a) for a in self.pool[: c.generation_seeds]])).detach()
        outputs.requires_grad_()
        (slope,) = torch.autograd.grad(coder.encoder.predict(outputs).sum(), outputs)
        for size in range(1, c.maximum_step + 1):
            if len(kept) >= c.new_architectures:
                break
            with torch.no_grad():
                moved = F.normalize(outputs + size * slope, dim=-1)
                decoded, _ = coder.decoder.free(F.normalize(moved.mean(1), dim=-1), moved, 5)
            self.known.append(len(set(self.pool)))
            for tokens in decoded.tolist():
                if from_tokens(tokens) not in self.pool + kept and len(kept) < c.new_architectures:
                    kept.append(from_tokens(tokens))
            self.steps_taken.append([size, len(kept)])
        return kept or [random_architecture(self.rng, 5) for _ in range(c.new_architectures)]

    def from_scratch(self, number: int, architecture) -> float:
        c = self.c
        torch.manual_seed(seeds.integer(self.seed, "final", number))
        state = torch.get_rng_state()
        told = {"auxiliary": c.final_auxiliary, "dropout_keep": c.final_dropout_keep, "relu_in_place": True}
        net = StandIn(architecture, self.shape, **told, generator=seeds.generator(self.seed, "final", number)).train()
        self.built.append(net.told)
        torch.set_rng_state(state)
        alone = Alone(
            [cosine(c.lr, c.lr_min, epoch, c.final_epochs) for epoch in range(c.final_epochs)], c.momentum,
            c.weight_decay, c.clip, c.final_drop_path_keep, c.final_drop_path_steps or c.epochs * self.steps,
            c.final_batch_size,
        )  # fmt: skip
        for epoch, row in enumerate(alone.epochs(net, self.train, self.seed, f"final-{number}")):
            self.rows["final"].append([number * c.final_epochs + epoch, number, epoch, *row])
        return 100 - errors_of(net, self.valid)[1]


COLUMNS = {
    "history": ("epoch", "iteration", "lr", "candidates", "train_loss", "train_top1_error_percent"),
    "pool": ("iteration", "size", "best", "worst", "mean"),
    "controller": ("epoch", "iteration", "iteration_epoch", "loss", "mse", "nll", "pairwise_accuracy", "hamming"),
    "final": ("epoch", "number", "number_epoch", "train_loss", "train_top1_error_percent"),
}  # fmt: skip


def held(folder: Path, name: str) -> list[list[float]]:
    with (folder / f"{name}.csv").open() as lines:
        return [[float(row[column]) for column in COLUMNS[name]] for row in csv.DictReader(lines)]


@pytest.mark.parametrize("changes", [{}, OTHER], ids=["published", "other"])
def test_a_whole_search(tmp_path, monkeypatch, one_thread, changes):
    asked, built = [], []

    def made(*architecture, **told):
        found = StandIn(*architecture, **told)
        built.append(found.told)
        return found

    policy, sizes = balanced.policy, []
    monkeypatch.setattr(balanced, "policy", lambda name, found: sizes.append(found.tolist()) or policy(name, found))
    select, known = pool.select_new, []
    monkeypatch.setattr(pool, "select_new", lambda *a: known.append(len(a[1])) or select(*a))
    monkeypatch.setattr(search_module, "Supernet", made)
    monkeypatch.setattr(search_module, "Network", made)
    monkeypatch.setattr(Run, "write_state", lambda self, state: None)
    monkeypatch.setattr(search_module, "small_images", lambda *a: asked.append(a[:2]) or pictures())
    c = replace(SEARCH, **changes)
    options = RunOptions(out=tmp_path, device="cpu", paper="nao_v2", section="search", seed=SEED)
    result = search_module.search(c, options)
    assert asked == [("cifar10", "train")]  # the test part is never read
    second = Plainly(c, pictures())
    second.search()
    assert built == second.built and sizes == second.sizes
    for name, rows in second.rows.items():
        np.testing.assert_allclose(held(tmp_path, name), rows, rtol=2e-5, atol=1e-6, err_msg=name)
    assert (tmp_path / f"arch_pool.{c.iterations - 1}").read_text().splitlines() == [text_of(a) for a in second.pool]
    scores = [float(s) for s in (tmp_path / f"arch_pool.perf.{c.iterations - 1}").read_text().split()]
    assert scores == pytest.approx(second.scores)
    order = sorted(range(c.final), key=lambda k: -second.final[k])
    assert order[0] or changes, second.final  # the best is not the first
    best = second.pool[order[0]]
    assert (tmp_path / "arch_pool.final").read_text().splitlines() == [text_of(second.pool[k]) for k in order]
    finals = [float(s) for s in (tmp_path / "arch_pool.perf.final").read_text().split()]
    assert finals == pytest.approx([second.final[k] for k in order])
    assert result["architecture"] == text_of(best)
    assert json.loads((tmp_path / "architecture.json").read_text())["architecture"]["text"] == text_of(best)
    size, quality = size_of(best, second.shape, 32), second.quality()
    assert result["metrics"] == pytest.approx({
        "valid_accuracy_percent": second.final[order[0]], "supernet_accuracy": second.scores[order[0]],
        "parameters": size.parameters, "macs": size.macs, "pool": len(second.pool),
        "supernet_steps": c.iterations * c.epochs * second.steps, "new_architectures": second.generated,
        "controller_pairwise_accuracy": quality[0], "controller_hamming": quality[1],
    })  # fmt: skip
    with (tmp_path / "generation.csv").open() as lines:
        found = [[int(row["largest_step"]), int(row["decoded"])] for row in csv.DictReader(lines)]
    ends = [k for k, step in enumerate(second.steps_taken[1:]) if step[0] == 1] + [len(second.steps_taken) - 1]
    assert found == [second.steps_taken[k] for k in ends] and max(step for step, _ in found) > 1
    assert known == second.known  # what counts as known is the whole pool
