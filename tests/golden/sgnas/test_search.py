"""The golden steps through the search itself: both phases of ``search`` on stored weights, paths, batches and noise."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from common.cli.verbs import RunOptions
from common.run.folder import Run
from papers.sgnas import search as stage
from papers.sgnas.data.search_data import SearchData
from papers.sgnas.method.generator import Generator
from papers.sgnas.method.prior import PriorPool
from papers.sgnas.networks.architectures import Macro
from papers.sgnas.networks.published_keys import supernet_from_published, supernet_to_published
from papers.sgnas.networks.supernet import Supernet
from papers.sgnas.settings import SearchGenerator, SearchSupernet


class Stored:
    """One batch an epoch: that of the file."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.pairs = [(torch.from_numpy(a), torch.from_numpy(b)) for a, b in zip(x, y, strict=True)]

    def __len__(self) -> int:
        return 1

    def share_sizes(self, step: int) -> list[int]:
        return [len(self.pairs[0][1])]

    def epoch(self, number: int, start: int = 0):
        return iter(self.pairs[number : number + 1][start:])


def data_of(golden, stored: dict[str, np.ndarray]) -> tuple[SearchData, Supernet]:
    """The stored batches for both phases, and the stored supernet."""
    small = golden.npz("supernet_small.npz")
    macro = Macro("golden", tuple(map(tuple, small["layers"].tolist())), int(small["stem_stride"]), 12, 4)
    supernet = Supernet(macro, 5)
    supernet.load_state_dict(supernet_from_published(golden.part(small, "sd/"), supernet))
    batches: Any = Stored(stored["x"], stored["y"])
    images: Any = SimpleNamespace(pins={}, pinned=True)
    kept: Any = SimpleNamespace(dataset="golden", to_json=dict)
    return SearchData(images, macro, 5, torch.device("cpu"), batches, batches, batches, kept), supernet


@pytest.fixture
def run(monkeypatch, tmp_path, one_thread):
    """A stage on stored data: its rows of the history."""
    monkeypatch.setattr(Run, "write_state", lambda self, state: None)

    def go(function: Any, settings: Any, data: SearchData) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        monkeypatch.setattr(stage, "open_search_data", lambda *a: data)
        monkeypatch.setattr(Run, "log", lambda self, file="history", **row: rows.append(row))
        function(settings, RunOptions(out=Path(tmp_path), device="cpu", paper="sgnas", section="search"))
        return rows

    return go


@pytest.mark.parametrize(("mode", "zero_grad"), [("zero", "zeros"), ("none", "none")])
def test_supernet_phase(golden, monkeypatch, run, mode, zero_grad):
    """Two steps of four paths each, at the stored rates: losses and all weights."""
    stored = golden.npz("supernet_train_step.npz")
    data, supernet = data_of(golden, stored)
    drawn, rates = iter([*stored["paths"].tolist()]), iter(stored["lr"].tolist())
    monkeypatch.setattr(stage, "first_supernet", lambda *a: supernet)
    monkeypatch.setattr(stage, "sample_paths", lambda rng, layers, count, active: next(drawn) if count == 4 else [[]])
    monkeypatch.setattr(stage, "score", lambda *a: (0.0, 0.0))
    monkeypatch.setattr(stage, "cosine", lambda *a: next(rates))
    settings = SearchSupernet(
        supernet_epochs=2, parts=0, momentum=float(stored["momentum"]), weight_decay=float(stored["weight_decay"]),
        zero_grad=zero_grad,
    )  # fmt: skip
    rows = run(stage.search_supernet, settings, data)
    golden.close([row["loss"] for row in rows], stored[f"{mode}/losses"].reshape(2, 4).mean(1), 1e-5)
    tensors = supernet_to_published(supernet.state_dict(), supernet)
    for key, norm in zip(stored["final_norm_keys"].tolist(), stored[f"{mode}/final_norms"]):
        if not key.endswith("blocks.3.weight"):
            assert float(tensors[key].double().norm()) == pytest.approx(norm, rel=1e-4, abs=1e-6), key


def test_generator_phase(golden, monkeypatch, run):
    """Two steps at the stored targets, temperatures and noise: both losses, and the weights after them."""
    stored = golden.npz("generator_train_step.npz")
    data, supernet = data_of(golden, stored)
    generator = Generator(10, 8, 5)
    generator.load_state_dict(golden.part(stored, "gen/"))
    noise = iter([golden.part(stored, f"step{k}/")["gumbel"].view(1, 3, 6, 4).nan_to_num(0.0) for k in (0, 1)])
    targets = iter([[float(target)] for target in stored["targets"]])
    low, high = float(stored["low"]), float(stored["high"])
    pool = PriorPool({6.0: torch.from_numpy(stored["prior"])}, low, high, "")
    ends: list[dict[str, torch.Tensor]] = []
    look = stage.Best.look

    def looked(self: Any, network: Generator, *rest: Any) -> bool:
        ends.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return look(self, network, *rest)

    monkeypatch.setattr(stage, "given_supernet", lambda *a: supernet)
    monkeypatch.setattr(stage, "prior_pool", lambda *a: pool)
    monkeypatch.setattr(stage, "Generator", lambda *a: generator)
    monkeypatch.setattr(stage, "gumbel_noise", lambda shape, chance: next(noise))
    monkeypatch.setattr(stage, "targets_of_step", lambda *a: next(targets))
    monkeypatch.setattr(stage.Best, "look", looked)
    monkeypatch.setattr(stage, "architectures_for_targets", lambda *a: {})
    settings = SearchGenerator(
        supernet="stored", generator_epochs=2, low_mflops=low, high_mflops=high, targets=(6.0,), target_step=1.0,
        validation_step=1.0, alpha=float(stored["alpha"]), loss_penalty=float(stored["loss_penalty"]),
        tau=float(stored["taus"][0]), tau_decay=float(stored["taus"][1] / stored["taus"][0]), width=8,
    )  # fmt: skip
    rows = run(stage.search_generator, settings, data)
    assert [row["tau"] for row in rows] == pytest.approx(stored["taus"].tolist())
    for k, row in enumerate(rows):
        assert row["hardware_loss"] == pytest.approx(float(stored[f"step{k}/hc_loss"]), rel=1e-4)
        assert row["loss"] == pytest.approx(float(stored[f"step{k}/ce_loss"]), rel=1e-5)
    for name, value in golden.part(stored, "final/").items():
        golden.close(ends[1][name], value, 1e-4, name)
