"""Data-parallel runs on two gloo processes: the same numbers as one process, and no hang when one dies."""

import json
import socket
import subprocess
import sys

import pytest
import torch

from common.train.losses import TopK

TWO_RANKS = """
import sys
sys.path.insert(0, sys.argv[2])
import torch
from common.run import seeds
from common.run import distributed
from common.train import batchnorm
from common.errors import UserError
from common.train.losses import TopK, check_finite
from common.train.loop import evaluate, read
distributed.setup()
rank = distributed.rank()
given = torch.load(sys.argv[1], weights_only=True)
exec(given["train"])
mine = [(x.tensor_split(2)[rank], y.tensor_split(2)[rank]) for x, y in given["batches"]]
counter = TopK()
model, weights = train(mine, counter)
# counts of a state are those of all processes, and going on from them counts nothing twice
again = TopK()
again.load_state_dict(counter.state_dict())
metrics, train_metrics = evaluate(model, mine), read(again)
drawn = []
for epoch, step in ((0, 0), (0, 1), (1, 0), (0, 0)):
    seeds.step_chance(5, epoch, step)
    drawn.append(torch.rand(1).item())
refusals = []
for loss, weight in ((float("nan") if rank else 1.0, 1.0), (float("nan") if rank else 1.0, 1.0 - rank)):
    try:
        check_finite(loss, weight=weight, step=3)
        refusals.append("")
    except UserError as error:
        refusals.append(str(error))
unused = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
unused[rank].grad = torch.full((2,), 6.0)
distributed.reduce_gradients(unused, images=1 + 2 * rank)
turns = distributed.in_turns("abcde")
shared = [value for turn in turns for value in distributed.share_out(turn, lambda k, x: [k, x, distributed.rank()])]
half = torch.full((3,), float(rank), dtype=torch.bfloat16)
distributed.all_reduce_mean([half, torch.zeros(())], weight=1)
out = {
    "model": model.state_dict(), "images": metrics.images, "train": train_metrics.loss, "drawn": drawn,
    "refusals": refusals, "agree": distributed.agree(rank == 0), "weights": weights, "half": half, "shared": shared,
    "unused": [None if p.grad is None else p.grad[0].item() for p in unused],
}
torch.save(out, sys.argv[1] + f".{rank}")
distributed.close()
"""

# The same text trains one process: shares of a batch are then computed one after another.
TRAIN = """
def train(batches, counter):
    import torch
    from torch import nn
    from common.train.optim import EMA
    from common.train.loop import train_step

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(5, 6, 1), nn.BatchNorm1d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)).double()
    model[1].register_buffer("running_third", torch.full((1,), 1 / 3))  # no share changes it: it must not move
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    ema = EMA(model, 0.9)
    for batch in batches:
        train_step(model, batch, optimizer, nn.functional.cross_entropy, clip_norm=5.0, counter=counter)
        ema.update(model)
    return model, ema.state_dict()
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
def test_two_ranks_equal_one_process_that_computes_their_shares(tmp_path, request, two_processes):
    """Uneven shares are weighted by images, an empty one is left out, buffers are equal after every step."""
    torch.manual_seed(1)
    batches = [(torch.randn(n, 5, 4).double(), torch.randint(3, (n,))) for n in (12, 7, 1, 11)]
    torch.save({"batches": batches, "train": TRAIN}, tmp_path / "given.pt")
    (tmp_path / "two.py").write_text(TWO_RANKS)
    two_processes([str(tmp_path / "two.py"), str(tmp_path / "given.pt"), str(request.config.rootpath)])
    first, second = (torch.load(tmp_path / f"given.pt.{rank}", weights_only=True) for rank in (0, 1))

    scope = {}
    exec(TRAIN, scope)
    counter = TopK()
    shares = [list(zip(x.tensor_split(2), y.tensor_split(2))) for x, y in batches]
    model, averages = scope["train"](shares, counter)
    for name, value in model.state_dict().items():
        assert torch.equal(first["model"][name], second["model"][name]), name
        assert torch.allclose(first["model"][name], value, atol=1e-12), name
        assert torch.allclose(first["weights"][name], averages[name], atol=1e-12), name
        assert torch.equal(first["weights"][name], second["weights"][name]), name
    assert model[1].num_batches_tracked == len(batches)
    assert torch.equal(first["model"]["1.running_third"], model[1].running_third)
    assert first["images"] == second["images"] == sum(len(y) for _, y in batches)
    assert first["train"] == second["train"] == pytest.approx(counter.read()[0])
    # what a step draws: by rank, epoch and step, and the same when the step is taken again
    a, b = first["drawn"], second["drawn"]
    assert a[0] == a[3] and b[0] == b[3] and len({*a, *b}) == 6
    # decisions are taken on reduced values, so that nobody waits for a process that has raised
    assert first["refusals"] == second["refusals"]
    assert "loss is nan at step 3" in first["refusals"][0] and first["refusals"][1] == ""
    assert first["agree"] and second["agree"]
    assert first["unused"] == second["unused"] == [1.5, 4.5, None]
    assert first["half"].tolist() == [0.5] * 3
    wanted = [[0, "a", 0], [1, "b", 1], [2, "c", 0], [3, "d", 1], [4, "e", 0]]
    assert first["shared"] == second["shared"] == wanted


@pytest.mark.slow
def test_a_dead_rank_ends_the_job_and_the_resumed_one_is_as_if_nothing_had_been(tiny, tmp_path):
    """Dropout draws by rank and step, buffers are averaged, every process gets its own generators back."""
    flags = ["search", "--device", "cpu"]
    done = launch(2, tiny.program, *flags, "--out", tmp_path / "good")
    assert done.returncode == 0, done.stderr[-3000:]
    history = (tmp_path / "good" / "history.csv").read_text()
    assert len(history.splitlines()) == 5  # only process 0 writes
    dead = launch(2, tiny.program, *flags, "--out", tmp_path / "dead", "--dies", 1)
    assert dead.returncode != 0
    assert "exitcode  : 7" in dead.stderr  # torchrun names the process that died
    assert "lost another process" in dead.stderr or "another process of the job has ended" in dead.stderr
    done = launch(2, tiny.program, *flags, "--out", tmp_path / "dead")
    assert done.returncode == 0 and "resuming" in done.stderr, done.stderr[-3000:]
    assert (tmp_path / "dead" / "history.csv").read_text() == history
    states = [json.loads((tmp_path / name / "result.json").read_text())["state"] for name in ("good", "dead")]
    assert states[0] == states[1]
