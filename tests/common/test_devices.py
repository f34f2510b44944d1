"""Which device a run takes: those that torch has here, faked where this machine has none."""

from __future__ import annotations

import pytest
import torch

from common.cli.verbs import RunOptions
from common.errors import UserError
from common.run import state
from common.run.device import exact, pick_device
from common.train.losses import TopK


@pytest.fixture
def gpus(monkeypatch):
    """A machine with three CUDA GPUs; the list holds the one that was chosen."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name in ("LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return chosen


@pytest.mark.parametrize(
    ("name", "local", "number"), [("auto", 0, 0), ("cuda", 0, 0), ("cuda", 2, 2), ("cuda:1", 0, 1), ("cuda:02", 0, 2)]
)
def test_cuda(gpus, monkeypatch, name, local, number):
    monkeypatch.setenv("LOCAL_RANK", str(local))
    assert pick_device(RunOptions(device=name)) == torch.device("cuda", number)
    assert gpus == [torch.device("cuda", number)]


def test_a_number_that_no_gpu_has(gpus, monkeypatch):
    with pytest.raises(UserError, match=r"--device cuda:3: 3 GPU\(s\) found, numbered from 0; use a lower number"):
        pick_device(RunOptions(device="cuda:3"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="several processes take a GPU each, --device cuda:1 is one of them"):
        pick_device(RunOptions(device="cuda:1"))
    assert not gpus


@pytest.mark.parametrize("name", ["cuda:", "cuda:-1", "cuda:x", "cuda:0,1", "CPU", "mps:0", "tpu", ""])
def test_names_that_are_no_device(name):
    with pytest.raises(UserError, match=r"--device cannot be .*\(one of auto, cpu, cuda, cuda:N, mps\)"):
        RunOptions(device=name)


def test_mps(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"no MPS device .* is usable here; use --device cpu"):
        pick_device(RunOptions(device="mps"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device(RunOptions(device="mps")) == torch.device("mps")
    states = [torch.arange(4)]
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: states[-1])
    monkeypatch.setattr(torch.mps, "set_rng_state", states.append)
    state.restore_rng(state.rng())
    assert len(states) == 2 and torch.equal(*states)


def test_without_float64_sums_are_float32(monkeypatch):
    """MPS has no float64; on other devices sums stay exact."""
    assert exact("mps") is torch.float32
    assert exact("cpu") is exact("cuda:1") is torch.float64
    monkeypatch.setattr("common.train.losses.exact", lambda device: torch.float32)
    counter = TopK()
    counter.add(torch.eye(6), torch.arange(6), torch.tensor(0.5))
    assert counter.totals.dtype is torch.float32 and counter.read() == (0.5, 0.0, 0.0, 6)
