"""Data-parallel runs on two gloo processes: the same numbers as one process, and no hang when one dies."""

import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

TWO_RANKS = """
import os, sys
sys.path.insert(0, sys.argv[2])
import torch
from torch import nn
from common import distributed
from common.losses import TopK
from common.optim import EMA
from common.training import evaluate, read, train_steps
distributed.setup()
rank = distributed.rank()
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).double()
wrapped = distributed.wrap(model) if sys.argv[3] == "ddp" else model
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
batches = torch.load(sys.argv[1], weights_only=True)
counter = TopK()
mine = [(x, y) for x, y in batches[rank::2]]
for _ in train_steps(wrapped, mine, optimizer, nn.functional.cross_entropy, clip_norm=5.0, counter=counter):
    pass
train = read(counter)
metrics = evaluate(model.eval(), mine)
if rank == 0:
    out = {"model": dict(model.named_parameters()), "images": metrics.images, "train": train.loss}
    torch.save(out, sys.argv[1] + ".out")
distributed.close()
"""


def launch(processes, *program, timeout=100):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--master-addr=127.0.0.1",
         f"--master-port={port}", *map(str, program)],
        capture_output=True, text=True, timeout=timeout, env={**environ(), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def environ():
    import os

    return {**os.environ, "NAS_SAVE_EVERY_S": "0", "NAS_DISTRIBUTED_TIMEOUT_S": "30"}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "by_hand"])
def test_two_ranks_equal_one_process_that_accumulates_their_batches(how, tmp_path, request):
    torch.manual_seed(1)
    batches = [(torch.randn(6, 5).double(), torch.randint(3, (6,))) for _ in range(6)]
    torch.save(batches, tmp_path / "batches.pt")
    (tmp_path / "two.py").write_text(TWO_RANKS)
    done = launch(2, tmp_path / "two.py", tmp_path / "batches.pt", request.config.rootpath, how)
    assert done.returncode == 0, done.stderr[-3000:]
    out = torch.load(tmp_path / "batches.pt.out", weights_only=True)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(3):
        optimizer.zero_grad()
        for x, y in batches[2 * step : 2 * step + 2]:
            loss = nn.functional.cross_entropy(model(x), y)
            losses.append(loss.item())
            (loss / 2).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.allclose(out["model"][name], parameter, atol=1e-12), name
    assert out["images"] == 36
    assert out["train"] == pytest.approx(sum(losses) / 6)


@pytest.mark.slow
def test_only_rank_zero_writes_and_a_dead_rank_ends_the_job(tiny, tmp_path):
    flags = ["search", "--out", tmp_path / "good", "--device", "cpu"]
    done = launch(2, tiny.program, *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len((tmp_path / "good" / "history.csv").read_text().splitlines()) == 5
    dead = launch(2, tiny.program, "search", "--out", tmp_path / "dead", "--device", "cpu", "--dies", 1)
    assert dead.returncode != 0
    assert "exitcode  : 7" in dead.stderr  # torchrun names the process that died
    assert "lost another process" in dead.stderr or "another process of the job has ended" in dead.stderr
