"""A search in several processes: two give what one process gives that takes both their batches; bf16 runs."""

from __future__ import annotations

import csv
import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from common import seeds
from common.cli import RunOptions
from common.data.batches import Batches
from common.schedules import cosine
from common.settings import to_dict
from papers.evnas import settings as s
from papers.evnas.evolution import Draws
from papers.evnas.halves import augmentation, open_parts
from papers.evnas.population import S1, S2, mixtures
from papers.evnas.search import build, make_sgd, search

TINY = {
    "dataset": "digits", "generations": 1, "train_images": 48, "fitness_size": 24, "batch_size": 6,
    "fitness_batch_size": 6, "population": 3, "tournament": 2, "pad": 2, "flip": False, "cutout": 0,
    "learning_rate": 0.1,
}  # fmt: skip
SPACES = {
    "s1": (s.SearchS1(**TINY, channels=2, layers=3), S1),
    "s2": (s.SearchS2(**TINY, channels=2, cells_per_stage=1), S2),
}


def flags(name: str) -> list[str]:
    small = {"s1": {"channels": 2, "layers": 3}, "s2": {"channels": 2, "cells-per-stage": 1}}[name]
    words = []
    for key, value in {**TINY, **small}.items():
        flag = key.replace("_", "-")
        words += [f"--no-{flag}"] if value is False else [f"--{flag}", str(value)]
    return words


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s1", "s2"])
def test_two_processes_equal_one_that_takes_both_batches(name, tmp_path, two_processes):
    settings, space = SPACES[name]
    command = ["-m", "papers.evnas", "search", "--space", name, "--out", str(tmp_path / "two"), "--device", "cpu"]
    two_processes([*command, *flags(name)], NAS_DATA=str(tmp_path))
    options = RunOptions(out=tmp_path / "one", device="cpu", data=tmp_path, paper="evnas", section="search")

    # one process: a copy of the supernet for each part, whose gradients are averaged before equal steps
    *parts, _, _ = open_parts(settings, options)
    seeds.seed_everything(0)
    models = [build(settings, 10)]
    models.append(build(settings, 10))
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [make_sgd(m, settings) for m in models]
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = cosine(settings.learning_rate, settings.learning_rate_min, 0, 1)

    def shares(images, size, stream, augment):
        return [
            Batches(images, size, augmentation(settings, images), 0, stream=stream, augment=augment, rank=r, world=2)
            for r in (0, 1)
        ]

    train = shares(parts[0], settings.batch_size, "train", True)
    fitness = shares(parts[1], settings.fitness_batch_size, "fitness", settings.fitness_images == "augmented")
    population = Draws.stream(space, 0, "population").population(settings.population)
    individuals = mixtures(space, population, True, settings.beta)
    steps = 0
    for step, batches in enumerate(zip(*(b.epoch(0) for b in train))):
        for model, (x, y) in zip(models, batches):
            model.train()
            model.zero_grad()
            cross_entropy(model(x, individuals[step % 3]), y).backward()
        grads = [[p.grad for p in model.parameters()] for model in models]
        for a, b in zip(*grads):
            assert (a is None) == (b is None)
            if a is not None:
                mean = (a + b) / 2
                a.copy_(mean), b.copy_(mean)
        for model, optimizer in zip(models, optimizers):
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimizer.step()
        steps += 1
    assert steps == len(train[0]) == 4
    state = models[0].state_dict()
    for key, value in models[1].state_dict().items():
        if value.is_floating_point():
            state[key] = (state[key] + value) / 2
    models[0].load_state_dict(state)

    found = load_file(tmp_path / "two" / "supernet.safetensors")
    moved = {} if settings.fitness_bn != "batch" else dict(models[0].named_buffers())  # S1's go on in the fitness pass
    compared = [k for k in state if k not in moved]
    assert len(compared) > 10 and set(compared) <= set(found)
    for key in compared:
        value = found[key]
        torch.testing.assert_close(value, state[key], rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")

    model = models[0].train() if settings.fitness_bn == "batch" else models[0].eval()
    scores = []
    with torch.no_grad():
        for k, individual in enumerate(individuals):
            seen = [(x, y) for b in fitness for x, y in b.epoch(k)]
            right = sum(int((model(x, individual).argmax(1) == y).sum()) for x, y in seen)
            assert sum(len(y) for _, y in seen) == 24
            scores.append(100 * right / 24)
    result = json.loads((tmp_path / "two" / "result.json").read_text())
    assert result["processes"] == 2 and result["settings"] == to_dict(settings)
    rows = list(csv.DictReader((tmp_path / "two" / "individuals.csv").open(newline="")))
    assert [float(row["top1"]) for row in rows] == pytest.approx(scores)


def test_bf16_is_near_fp32_and_says_so(tmp_path):
    settings = dataclasses.replace(SPACES["s2"][0], learning_rate=0.005)  # few and small steps stay comparable
    weights = {}
    for precision in ("fp32", "bf16"):
        out = tmp_path / precision
        options = RunOptions(
            out=out, device="cpu", data=tmp_path, precision=precision, paper="evnas", section="search_s2"
        )  # fmt: skip
        assert search(settings, options)["precision"] == precision
        weights[precision] = load_file(out / "supernet.safetensors")
    distance = [
        float((weights["bf16"][k] - w).norm() / (w.norm() + 1e-6)) for k, w in weights["fp32"].items() if w.dim() == 4
    ]
    assert 0 < max(distance) < 0.2
