"""Searches and trainings in two processes: what one process with two parts computes, and the same after a kill; the
experiment says that it takes one process.
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common.errors import UserError
from common.run import distributed
from common.run.folder import Run
from tests import fresh
from tests.nsas.small import (
    EXPERIMENT,
    GDAS,
    NB201_GDAS,
    NB201_RANDOM,
    RANDOM,
    RECURRENT,
    STAGES,
    TRAIN_TEXT,
    module_of,
    options,
)

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


def start(processes: int, *words: str, program=("-m", "papers.nsas")) -> tuple[int, str]:
    """(the worse exit status, standard error) of ``python PROGRAM WORDS`` in one process or two."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NAS_SAVE_EVERY_S": "0", "NAS_DISTRIBUTED_TIMEOUT_S": "60"}
    command = [*program, *words]
    jobs = fresh.pair(command, environment) if processes > 1 else [fresh.start(command, environment)]
    said = "".join(job.communicate(timeout=280)[1] for job in jobs)
    return max(abs(job.wait()) for job in jobs), said


def ended(folder):
    return load_file(folder / "weights.safetensors"), json.loads((folder / "result.json").read_text())["metrics"]


@pytest.mark.slow
def test_two_processes_equal_two_parts_of_one(tmp_path):
    """Weights, running statistics and tested error; the last batch, of two images, is shared out too.

    Two steps: later ones amplify the rounding of batch norms over single images.
    """
    few = ["--train-images", "12", "--epochs", "1", "--drop-path", "0"]
    for name, processes, more in (("two", 2, []), ("one", 1, ["--parts", "2"])):
        status, said = start(processes, *TRAIN, *few, *more, "--out", str(tmp_path / name))
        assert status == 0, said[-2000:]
    (two, tested), (one, alone) = ended(tmp_path / "two"), ended(tmp_path / "one")
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5, msg=key)
    assert two["cells.0.preprocess1.op.2.num_batches_tracked"] == one["cells.0.preprocess1.op.2.num_batches_tracked"]
    assert tested["top1_error_percent"] == pytest.approx(alone["top1_error_percent"], abs=0.5)


@pytest.mark.slow
def test_two_processes_with_drop_path_killed_and_resumed(tmp_path):
    """Masks belong to (seed, rank, epoch, step): the resumed run ends with the bytes of the uninterrupted one."""
    words = [*TRAIN, "--drop-path", "0.5"]
    status, said = start(2, *words, "--out", str(tmp_path / "whole"))
    assert status == 0, said[-2000:]
    (tmp_path / "killed.py").write_text(KILLED)
    status, said = start(2, *words, "--out", str(tmp_path / "broken"), program=(str(tmp_path / "killed.py"),))
    assert status == 9 and not (tmp_path / "broken" / "result.json").exists()
    assert (tmp_path / "broken" / "history.csv").exists(), said[-2000:]  # it got beyond its first epoch
    status, said = start(2, *words, "--out", str(tmp_path / "broken"))
    assert status == 0 and "resuming" in said, said[-2000:]
    for name in ("weights.safetensors", "history.csv", "result.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes(), name


# Every search, and the training of a recurrent cell: the last batch is one image, so the second process has none.
SHARED = {
    "search_random": replace(RANDOM, train_images=66, batch_size=32, select_images=33, select_batch_size=32, epochs=1),
    "search_gdas": replace(GDAS, train_images=66, batch_size=32, epochs=1),
    "search_nb201_random": replace(NB201_RANDOM, batch_size=59, select_batch_size=49, epochs=1),
    "search_nb201": replace(NB201_GDAS, batch_size=59, epochs=1),
    "search_ptb": replace(RECURRENT, batch_size=15, epochs=1, lr=0.2),  # 8 and 7 columns of the text
    "train_ptb": replace(TRAIN_TEXT, max_tokens=2500, batch_size=15, epochs=2, lr=1.0),
}
LATE = {"search_ptb": 8, "train_ptb": 8}  # saves before a stop; others: 2
JOB = """
import sys
from pathlib import Path
from common.run.folder import Run
from common.run import distributed
from tests.nsas.test_processes import LATE, SHARED, keep_the_end, run_stage
distributed.setup()
write, finish, left = Run.write_state, Run.finish, [0]
def stopping(self, state):
    write(self, state)
    left[0] -= 1
    if not left[0]:
        raise KeyboardInterrupt
Run.write_state, Run.finish = stopping, keep_the_end(finish)
for stage in SHARED:
    cut = [] if stage == "search_gdas" else [("cut", LATE.get(stage, 2)), ("cut", 0)]  # its steps take long
    for folder, stop in [("two", 0), *cut]:
        left[0] = stop
        try:
            run_stage(stage, Path(sys.argv[1]) / folder / stage)
        except KeyboardInterrupt:
            assert stop and left[0] == 0
        else:
            assert not stop
distributed.close()
"""


def run_stage(stage: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    module_of(STAGES[stage][0])[1](SHARED[stage], options(folder, stage))


def keep_the_end(finish):
    """``Run.finish`` that also writes what the run has kept: its weights, running statistics and tables."""

    def finished(self, result):
        if self.writes:
            kept = {name: thing.state_dict() for name, thing in self._kept.items() if name in ("supernet", "model")}
            torch.save(kept, self.folder / "end.pt")
        return finish(self, result)

    return finished


@pytest.fixture(scope="module")
def searched(tmp_path_factory, two_processes):
    """Every stage in two processes, whole, and stopped and resumed: saved after every step."""
    folder = tmp_path_factory.mktemp("searches")
    two_processes(["-c", JOB, str(folder)], PYTHONPATH=".", NAS_SAVE_EVERY_S="0")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("stage", SHARED)
def test_searches_in_two_processes(stage, searched, tmp_path, monkeypatch):
    """Stopped and resumed byte by byte; and what one process computes that works through the batches in two shares."""
    one, two = tmp_path / "one", searched / "two" / stage
    for name in ("result.json", "history.csv") if stage != "search_gdas" else ():
        assert (two / name).read_bytes() == (searched / "cut" / stage / name).read_bytes(), name
    if stage != "train_ptb":  # without batch norm shares need not be the same
        monkeypatch.setattr(distributed, "per_process", lambda parts=0: distributed.Sharing(parts=2))
    monkeypatch.setattr(Run, "finish", keep_the_end(Run.finish))
    run_stage(stage, one)
    ours, theirs = (torch.load(folder / "end.pt") for folder in (one, two))
    for part, tensors in ours.items():
        for name, value in tensors.items():
            torch.testing.assert_close(theirs[part][name], value, rtol=1e-3, atol=1e-4, msg=f"{part} {name}")
    mine, its = (json.loads((folder / "result.json").read_text()) for folder in (one, two))
    assert (mine["processes"], its["processes"]) == (1, 2) and mine["architecture"] == its["architecture"]
    assert its["metrics"] == pytest.approx(mine["metrics"], rel=1e-3)
    rows, others = (list(csv.DictReader((folder / "history.csv").open())) for folder in (one, two))
    for row, other in zip(rows, others, strict=True):
        for column, value in row.items():
            if column in ("cell", "rolled_back", "averaging"):
                assert value == other[column]
            else:
                assert float(other[column]) == pytest.approx(float(value), rel=1e-3, abs=1e-3), column


def test_the_experiment_says_that_it_takes_one_process(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="one process"):
        module_of("studies.forgetting:experiment")[1](EXPERIMENT, options(tmp_path))
