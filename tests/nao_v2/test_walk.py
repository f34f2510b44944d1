"""Every setting of every stage acts, or is refused by name: the stages run on recorders instead of networks.

A run leaves a trace: what networks are built of, what each step is given, what is tested. Changing a setting changes
the trace, or ends in a line that names it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common.cli.verbs import RunOptions
from common.errors import UserError
from common.run import folder as runs
from common.settings import NOT_RESULT_BEARING, field_types
from common.train.loop import Metrics
from papers.nao_v2 import evaluate as evaluate_module
from papers.nao_v2 import search, train
from papers.nao_v2.data import sets as datasets
from papers.nao_v2.describe import describe, draw
from papers.nao_v2.method import pool, stand_alone, supernet_training
from papers.nao_v2.networks.architectures import PUBLISHED_TEXT, Shape, text_of
from papers.nao_v2.networks.derived import Network
from papers.nao_v2.settings import (
    Describe,
    Draw,
    Evaluate,
    RandomSearch,
    RankStudy,
    Search,
    Train,
)
from papers.nao_v2.studies import random_search, rank_study

OTHER = PUBLISHED_TEXT["NAONet_B"]
SMALL: dict[str, Any] = {"valid_images": 100, "train_images": 80, "layers": 1, "channels": 2, "dataset": "digits"}
SEARCH = Search(
    **SMALL, iterations=3, seed_architectures=6, new_architectures=2, epochs=2, batch_size=32, score_images=20,
    controller_epochs=2, controller_mlp_layers=1, controller_embedding=4, controller_hidden=8, controller_mlp_hidden=4,
    controller_batch_size=8, controller_copies=3, generation_seeds=2, maximum_step=3, on_empty="random", final=2,
    final_epochs=2, final_batch_size=32, restart="continue",
)  # fmt: skip
RANDOM = RandomSearch(**SMALL, epochs=2, batch_size=32, search_epochs=6, search_iterations=3, search_final=1)
RANK = RankStudy(**SMALL, architectures=3, seeds=1, epochs=2, batch_size=32, alone_epochs=2)
TRAIN = Train(dataset="digits", layers=1, channels=2, epochs=3, batch_size=32, train_images=80, eval_every=2)
TESTED_ELSEWHERE = {"on_empty": "test_nothing_new_stops_with_the_state_kept (test_resume.py)"}


class Recorder:
    """The trace, and stand-ins that write to it."""

    def __init__(self) -> None:
        self.trace: list[str] = []
        self.digest = hashlib.sha256()

    def add(self, *what: Any) -> float:
        """Note it; a number in [0, 1) that depends on all that was noted so far."""
        self.trace.append(repr([plain(w) for w in what]))
        self.digest.update(self.trace[-1].encode())
        return int.from_bytes(self.digest.digest()[:4], "little") / 2**32

    def network(self, *architecture: Any, generator: torch.Generator, **shape: Any) -> nn.Module:
        self.add("network", architecture, shape, generator.initial_seed())
        found = nn.Linear(1, 1)
        layers = shape["layers"] if "layers" in shape else architecture[1].layers
        found.cells_total, found.drop_path = 3 * layers + 2, None
        return found

    def step(self, network: Any, architecture: Any, batch: Any, optimizer: Any, *rest: Any) -> float:
        group = {k: optimizer.param_groups[0][k] for k in ("lr", "momentum", "weight_decay")}
        self.add("step", text_of(architecture), batch, group, vars(network.drop_path), rest[:3])
        return 0.0

    def score(self, network: Any, architecture: Any, batches: Any, *rest: Any) -> float:
        return self.add("score", text_of(architecture), batches, rest)

    def evaluate(self, network: Any, batches: Any, *rest: Any) -> Metrics:
        weights = dict(network.state_dict()) if isinstance(network, Network) else None
        return Metrics(1.0, 100 * self.add("evaluate", weights, list(batches), rest), 50.0, 7)

    def select(self, *arguments: Any) -> Any:
        self.add("select", len(arguments[0]), arguments[3:])
        return SELECT(*arguments)

    def trained(
        self, run: Any, network: Any, recipe: Any, batches: Any, device: Any, chance: int
    ) -> Iterator[tuple[int, Metrics]]:
        for epoch in range(recipe.epochs):
            shares = [[(x, y) for x, y in share] for share in batches.shares(epoch)]
            self.add("epoch", dataclasses.asdict(recipe), recipe.rate(epoch), shares, chance)
            yield epoch, Metrics(1.0, 50.0, 50.0, 7)


@functools.cache
def opened(name: str, part: str) -> Any:
    return OPEN(name, part, SimpleNamespace(data=None, allow_unpinned=True))


SELECT, OPEN = pool.select_new, datasets.open_images


def plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()[:12]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """settings -> trace of a run of the stage."""
    state = SimpleNamespace(number=0, recorder=Recorder())

    def by_name(name: str) -> Any:
        return lambda *a, **k: getattr(state.recorder, name)(*a, **k)

    alone = {"Network": "network", "train_alone": "trained", "evaluate": "evaluate"}
    for module, names in (
        (search, {"Supernet": "network", **alone}),
        (supernet_training, {"supernet_step": "step", "score": "score"}),
        (pool, {"select_new": "select"}),
        (stand_alone, alone),
        (rank_study, {"Supernet": "network"}),
        (train, alone),
        (evaluate_module, {"evaluate_model": "evaluate"}),
    ):
        for name, stand_in in names.items():
            monkeypatch.setattr(module, name, by_name(stand_in))
    monkeypatch.setattr(runs.records, "write_env", lambda *a, **k: None)
    monkeypatch.setattr(datasets, "open_images", lambda name, part, _: opened(name, part))
    monkeypatch.setattr(runs.Run, "write_state", lambda self, state: None)
    monkeypatch.setattr(train, "save_weights", lambda *a, **k: None)
    monkeypatch.setattr(runs.Run, "log", lambda self, file="history", **row: state.recorder.add(file, row))

    def run(function: Any, settings: Any, section: str) -> list[str]:
        state.number, state.recorder = state.number + 1, Recorder()
        options = RunOptions(
            out=tmp_path / str(state.number), device="cpu", allow_unpinned=True, paper="nao_v2", section=section
        )
        result = function(settings, options)
        if function is draw:
            return [Path(file).suffix + Path(file).read_text(errors="replace") for file in result["files"]]
        kept = {k: v for k, v in result.items() if k not in ("settings", "fingerprint", "files")}
        return [*state.recorder.trace, json.dumps(kept, sort_keys=True, default=str)]

    return run


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> dict[str, Any]:
    """Other values of settings that need files or are no numbers."""
    root = tmp_path_factory.mktemp("walk")
    for number in range(2):
        folder = root / "pictures" / f"class{number}"
        folder.mkdir(parents=True)
        for k in range(200):
            Image.fromarray(np.full((32, 32, 3), 100 * number + k // 4, np.uint8)).save(folder / f"{k}.png")
    (root / "pool").write_text("\n".join(list(PUBLISHED_TEXT.values())[:4]) + "\n")
    for name, seed in (("weights", 0), ("others", 1)):
        torch.manual_seed(seed)
        torch.save(Network(OTHER_ARCHITECTURE, Shape(channels=2, layers=1)).state_dict(), root / f"{name}.pt")
    return {
        "dataset": str(root / "pictures") + "@32", "pool_file": str(root / "pool"), "arch": OTHER,
        "checkpoint": str(root / "others.pt"), "first": str(root / "weights.pt"), "controller_hidden": 16,
        "controller_embedding": 8, "parts": 2, "architectures": 2, "layers": 2, "channels": 4, "valid_images": 120,
        "train_images": 90, "score_images": 30,
        "cutout": 8, "controller_clip": 1e-3, "search_epochs": 12, "network": "imagenet",
    }  # fmt: skip


OTHER_ARCHITECTURE = tuple(
    tuple(int(v) for v in PUBLISHED_TEXT["NAONet_V2"].split()[part]) for part in (slice(0, 20), slice(20, 40))
)


def changed(settings: Any, name: str, others: dict[str, Any]) -> list[Any]:
    """Other values of a setting: every other choice, or one other number."""
    value, kind = getattr(settings, name), field_types(type(settings))[name]
    if name in others and others[name] != value:
        return [others[name]]
    if typing.get_origin(kind) is typing.Literal:
        return [choice for choice in typing.get_args(kind) if choice != value]
    if isinstance(value, bool):
        return [not value]
    return [value + 1] if isinstance(value, int) else [value * 0.5 if value else 0.25]


STAGES = {
    "search": (lambda: search.search, SEARCH),
    "random_search": (lambda: random_search.random_search, RANDOM),
    "rank_study": (lambda: rank_study.rank_study, RANK),
    "train": (lambda: train.train, TRAIN),
    "evaluate": (lambda: evaluate_module.evaluate, Evaluate(dataset="digits", channels=2, layers=1)),
    "describe": (lambda: describe, Describe(dataset="cifar10")),
    "draw": (lambda: draw, Draw(format="dot")),
}


@pytest.mark.parametrize("stage", STAGES)
def test_every_setting_acts_or_is_refused(recorded, others, stage):
    function, base = STAGES[stage][0](), STAGES[stage][1]
    if stage == "train":  # what a training takes of weights is tested elsewhere
        others = {**others, "checkpoint": "absent"}
    if stage == "evaluate":
        base = dataclasses.replace(base, checkpoint=others["first"])
    usual = recorded(function, base, stage)
    assert recorded(function, base, stage) == usual, "the trace must be the settings' alone"
    faults = []
    for name in field_types(type(base)):
        if name in NOT_RESULT_BEARING or name in TESTED_ELSEWHERE:
            continue
        for value in changed(base, name, others):
            try:
                if recorded(function, dataclasses.replace(base, **{name: value}), stage) == usual:
                    faults.append(f"{name} = {value!r} does nothing")
            except UserError as error:
                if name not in str(error).replace("-", "_") and str(value) not in str(error):
                    faults.append(f"{name} = {value!r} is refused without its name: {error}")
    assert not faults
