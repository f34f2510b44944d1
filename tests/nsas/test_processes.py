"""Derived CNNs in two processes: what one process with two parts computes, and the same after a kill; other verbs say
that they take one process.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from common.errors import UserError
from tests.nsas.small import STAGES, module_of, options

TRAIN = [
    "train", "--dataset", "digits", "--train-images", "62", "--batch-size", "10", "--epochs", "2", "--channels", "2",
    "--layers", "3", "--no-auxiliary", "--cutout", "0", "--device", "cpu", "--eval-batch-size", "500",
    "--eval-every", "2",
]  # fmt: skip
KILLED = """
import os, sys
sys.path.insert(0, os.getcwd())
from common.cli.verbs import main
from common.spaces.darts import train
from papers.nsas.__main__ import VERBS
step, calls = train.train_step, []
def stopped(*args, **kwargs):
    calls.append(1)
    if len(calls) == 7 + 6:  # the sixth step of the second epoch
        os._exit(9)
    return step(*args, **kwargs)
train.train_step = stopped
main("nsas", VERBS, sys.argv[1:])
"""


def start(processes: int, *words: str, program=("-m", "papers.nsas")) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NAS_SAVE_EVERY_S": "0", "NAS_DISTRIBUTED_TIMEOUT_S": "60"}
    command = [sys.executable, *program]
    if processes > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}",
            "--master-addr=127.0.0.1", f"--master-port={port}", *program,
        ]  # fmt: skip
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=280, env=environment)


def ended(folder):
    return load_file(folder / "weights.safetensors"), json.loads((folder / "result.json").read_text())["metrics"]


@pytest.mark.slow
def test_two_processes_equal_two_parts_of_one(tmp_path):
    """Weights, running statistics and tested error; the last batch, of two images, is shared out too.

    Two steps: later ones amplify the rounding of batch norms over single images.
    """
    few = ["--train-images", "12", "--epochs", "1", "--drop-path", "0"]
    for name, processes, more in (("two", 2, []), ("one", 1, ["--parts", "2"])):
        done = start(processes, *TRAIN, *few, *more, "--out", str(tmp_path / name))
        assert done.returncode == 0, done.stderr[-2000:]
    (two, tested), (one, alone) = ended(tmp_path / "two"), ended(tmp_path / "one")
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5, msg=key)
    assert two["cells.0.preprocess1.op.2.num_batches_tracked"] == one["cells.0.preprocess1.op.2.num_batches_tracked"]
    assert tested["top1_error_percent"] == pytest.approx(alone["top1_error_percent"], abs=0.5)


@pytest.mark.slow
def test_two_processes_with_drop_path_killed_and_resumed(tmp_path):
    """Masks belong to (seed, rank, epoch, step): the resumed run ends with the bytes of the uninterrupted one."""
    words = [*TRAIN, "--drop-path", "0.5"]
    whole = start(2, *words, "--out", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr[-2000:]
    (tmp_path / "killed.py").write_text(KILLED)
    broken = start(2, *words, "--out", str(tmp_path / "broken"), program=(str(tmp_path / "killed.py"),))
    assert broken.returncode != 0 and not (tmp_path / "broken" / "result.json").exists()
    assert (tmp_path / "broken" / "history.csv").exists(), broken.stderr[-2000:]  # it got beyond its first epoch
    again = start(2, *words, "--out", str(tmp_path / "broken"))
    assert again.returncode == 0 and "resuming" in again.stderr, again.stderr[-2000:]
    for name in ("weights.safetensors", "history.csv", "result.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes(), name


@pytest.mark.parametrize("target", sorted({t for t, _, _ in STAGES.values()} - {"train:train"}))
def test_one_process_verbs_say_so(target, tmp_path, monkeypatch):
    settings = next(s for t, s, _ in STAGES.values() if t == target)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="one process"):
        module_of(target)[1](settings, options(tmp_path))
