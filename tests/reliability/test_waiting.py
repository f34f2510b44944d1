"""No step waits for the device: what a GPU run would read from it inside a step, counted in runs on the CPU.

A read is a call that needs a tensor's values in Python (``item``, ``bool``, ``tolist``, ``cpu``, ``nonzero``, …). Some
are the method's: the next operations depend on a number. They are listed with their place and count. Numbers that a GPU
run holds on the CPU anyway are listed apart.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from common.cli.verbs import RunOptions
from common.errors import UserError
from common.run import keep
from common.run.keep import Keeping
from common.run.state import Store
from common.train import losses
from common.train.losses import check_finite
from papers.evnas.settings import Train as TrainEvnas
from papers.nao_v2.settings import Train as TrainNao
from papers.sgnas.settings import Train as TrainSgnas
from tests.cream import tools as cream
from tests.evnas import small as evnas
from tests.nao_v2.test_resume import TINY as NAO_SEARCH
from tests.nsas import small as nsas
from tests.sgnas import small as sgnas

READS = {"tolist", "numpy", "cpu", "__array__"}
VALUES = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "_unique2"}
ON_THE_CPU = {  # an individual's mixture, the draw and the cells of a table, a step's noise, what paths use
    "supernet plain_numbers", "search_gdas search", "relaxation gumbel", "supernet_training <dictcomp>",
}  # fmt: skip
STEPS = 3
LONGER = {"cream search": 8}  # with a board, and two updates of the meta layer


class Asked(Exception):
    """As many steps as are looked at."""


class Reads:
    """Where values were read, "module function", in the steps of a run."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self.steps, self.limit = 0, STEPS
        reads = self

        class Functions(TorchFunctionMode):
            def __torch_function__(self, function, types, args=(), kwargs=None):
                if getattr(function, "__name__", "") in READS:
                    reads.note()
                return function(*args, **(kwargs or {}))

        class Operations(TorchDispatchMode):
            def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
                if operation.overloadpacket.__name__ in VALUES:
                    reads.note()
                return operation(*args, **(kwargs or {}))

        self.modes = Functions, Operations

    def note(self) -> None:
        for frame in reversed(traceback.extract_stack()):
            path = Path(frame.filename)
            if "optim" in path.parts:  # counts its steps on the CPU
                return
            if {"papers", "common"} & set(path.parts) and "torch" not in path.parts:
                self.found[f"{path.stem} {frame.name}"] += 1
                return

    @contextlib.contextmanager
    def looking(self):
        with self.modes[0](), self.modes[1]():
            yield


@pytest.fixture
def reads(monkeypatch):
    """Reads of a run whose losses wait as on a GPU; it is stopped after ``limit`` steps."""
    found, steps, each = Reads(), Keeping.steps, Keeping.each

    def watched(loop):
        for number, item in loop:
            if found.steps == found.limit:
                raise Asked
            found.steps += 1
            with found.looking():
                yield number, item

    def of_steps(self, batches, epoch, name="step"):
        return watched(steps(self, batches, epoch, name))

    def of_each(self, items, name):
        return watched(each(self, items, name)) if name == "chunk" else each(self, items, name)

    monkeypatch.setattr(Keeping, "steps", of_steps)
    monkeypatch.setattr(Keeping, "each", of_each)
    monkeypatch.setattr(losses, "waits", lambda device: True)
    monkeypatch.setattr(keep, "_unseen", [])
    return found


def options(out, paper, section="train"):
    return RunOptions(out=out, device="cpu", data=out / "nowhere", paper=paper, section=section, given=frozenset())


def function_of(case):
    """(paper, function, settings) of a case."""
    target, settings, _ = CASES[case]
    module, function = target.split(":")
    return module.split(".")[0], getattr(importlib.import_module(f"papers.{module}"), function), settings


TRAIN_EVNAS = TrainEvnas(**evnas.TRAIN)
TRAIN_NAO = TrainNao(dataset="digits", layers=1, channels=2, epochs=1, batch_size=32, train_images=96)
TRAIN_SGNAS = TrainSgnas(dataset="digits", macro="tiny", train_images=48, batch_size=16, epochs=1, schedule="cosine",
                         warmup_epochs=0)  # fmt: skip
CASES = {
    "evnas search": ("evnas.search:search", evnas.DARTS_SEARCH, {}),
    "evnas search, NAS-Bench-201": ("evnas.search:search", evnas.NB201_SEARCH, {}),
    "evnas train": ("evnas.train:train", TRAIN_EVNAS, {}),
    "nsas search": ("nsas.search_random:search", nsas.RANDOM, {}),
    "nsas search, paper's loss": ("nsas.search_random:search", replace(nsas.RANDOM, constraint_gradient=True), {}),
    # the tables say which cell runs next
    "nsas search, GDAS": ("nsas.search_gdas:search", nsas.GDAS, {"tables sample": 1}),
    "nsas search, NAS-Bench-201": ("nsas.nasbench201.search_random:search", nsas.NB201_RANDOM, {}),
    "nsas search, GDAS on NAS-Bench-201": (
        "nsas.nasbench201.search_gdas:search",
        nsas.NB201_GDAS,
        {"search_gdas drawn": 5},
    ),
    "nsas search, recurrent": ("nsas.recurrent.search:search", nsas.RECURRENT, {}),
    "nsas train, recurrent": ("nsas.recurrent.train:train", nsas.TRAIN_TEXT, {"train train_step": 2}),
    "nao_v2 search": ("nao_v2.search:search", NAO_SEARCH, {}),
    "nao_v2 train": ("nao_v2.train:train", TRAIN_NAO, {}),
    # a path's score decides whether it enters the board, and the board's scores which path teaches
    "cream search": (
        "cream.search:search",
        cream.SEARCH,
        {"distillation train_student": 1, "meta choose_teacher": 2, "meta meta_update": 2},
    ),
    "cream train": ("cream.train:train", cream.TRAIN, {}),
    "sgnas search": ("sgnas.search:search", sgnas.SMALL, {"fixed_supernet soft": 1}),  # operations that p switches off
    "sgnas train": ("sgnas.train:train", TRAIN_SGNAS, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_step_reads(case, reads, tmp_path):
    (paper, run, settings), allowed = function_of(case), CASES[case][2]
    reads.limit = LONGER.get(case, STEPS)
    with contextlib.suppress(Asked):
        run(settings, options(tmp_path, paper))
    assert reads.steps >= 2
    each = {place: count / reads.steps for place, count in reads.found.items()}
    assert not {place: n for place, n in each.items() if n > allowed.get(place, 0) and place not in ON_THE_CPU}


def test_a_loss_that_waits_is_looked_at_before_a_state_or_a_row_is_kept(monkeypatch, tmp_path):
    """A run that diverges at step 2, whose losses wait as on a GPU, says so; its state is that before the step."""
    from papers.evnas import train as module

    steps, at, plain = [0], [2], module.cross_entropy

    def diverging(logits, target):
        if logits.requires_grad:
            steps[0] += 1
        return plain(logits, target) * (math.nan if steps[0] > at[0] else 1.0)

    monkeypatch.setattr(module, "cross_entropy", diverging)
    monkeypatch.setattr(losses, "waits", lambda device: True)
    monkeypatch.setattr(keep, "_unseen", [])
    settings = replace(TRAIN_EVNAS, epochs=1)
    for every in ("0", "600"):  # a state after every step; none inside an epoch
        steps[0], out = 0, tmp_path / every
        monkeypatch.setenv("NAS_SAVE_EVERY_S", every)
        with pytest.raises(UserError, match="the loss is nan at step 2"):
            module.train(settings, options(out, "evnas"))
        state, keep._unseen[:] = Store(out / "state").load(), []
        assert steps[0] == 3 and not (out / "history.csv").exists()
        if every == "0":
            assert state["state"]["position"] == [["epoch", 0], ["step", 2]]
            assert all(torch.isfinite(w).all() for w in state["state"]["kept"]["model"].values())
        else:
            assert state is None
    at[0] = 99
    result = module.train(settings, options(tmp_path / "0", "evnas"))  # goes on from the state
    assert result["metrics"] == module.train(settings, options(tmp_path / "whole", "evnas"))["metrics"]


def test_losses_that_wait_are_looked_at_every_now_and_then(monkeypatch):
    monkeypatch.setattr(losses, "waits", lambda device: True)
    monkeypatch.setattr(keep, "_unseen", [])
    for step in range(keep.LOOK_EVERY - 1):
        value = check_finite(torch.tensor(math.inf if step == 5 else 1.0), step=step)
        assert isinstance(value, torch.Tensor) and value.dtype == torch.float64
    with pytest.raises(UserError, match="the loss is inf at step 5 "):
        check_finite(torch.tensor(2.0), step=keep.LOOK_EVERY - 1)
    assert not keep._unseen


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", [case for case, (_, _, allowed) in CASES.items() if not allowed])
def test_no_step_waits_on_a_gpu(case, tmp_path, monkeypatch):
    """From the second step on, batches included, CUDA's own check ends the run at the first wait."""
    paper, run, settings = function_of(case)
    steps = Keeping.steps

    def strict(self, batches, epoch, name="step"):
        for number, item in steps(self, batches, epoch, name):
            yield number, item
            if number == STEPS - 1:
                raise Asked
            torch.cuda.set_sync_debug_mode("error")

    monkeypatch.setattr(Keeping, "steps", strict)
    try:
        with contextlib.suppress(Asked):
            run(settings, replace(options(tmp_path, paper), device="cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
