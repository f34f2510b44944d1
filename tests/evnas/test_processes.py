"""Searches and trainings in two processes: what one process gives that works through the batches in two parts; killed
and resumed."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common.cli.verbs import RunOptions
from papers.evnas.search import search
from papers.evnas.settings import SearchDARTS, SearchNB201, Train
from papers.evnas.train import train

TINY = {
    "dataset": "digits", "generations": 1, "train_images": 49, "fitness_images": 33, "batch_size": 24,
    "fitness_batch_size": 32, "population": 2, "tournament": 2, "pad": 2, "flip": False, "cutout": 0,
    "lr": 0.1,
}  # fmt: skip
SPACES = {
    "darts": SearchDARTS(**TINY, channels=2, layers=3),
    "nb201": SearchNB201(**TINY, channels=2, cells_per_stage=1, split="index", fitness_bn="batch"),
}
TRAIN = Train(
    dataset="digits", train_images=49, channels=2, layers=2, auxiliary=False, epochs=2, batch_size=16, drop_path=0.3,
    pad=2, flip=False, cutout=0, eval_batch_size=250,
)  # fmt: skip

JOB = """
import dataclasses, sys
from pathlib import Path
from common.run import distributed
from common.cli.verbs import RunOptions
from common.run.folder import Run
from tests.evnas.test_processes import SPACES, TRAIN
from papers.evnas.search import search
from papers.evnas.train import train
distributed.setup()
name, out, stop = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
settings = TRAIN if name == "train" else SPACES[name]
options = RunOptions(out=out, device="cpu", data=out.parent, paper="evnas", section="run", given=frozenset())
kept, saves = Run.write_state, []
def save(self, state):
    kept(self, state)
    saves.append(1)
    if len(saves) == stop:
        raise KeyboardInterrupt
Run.write_state = save
try:
    (train if name == "train" else search)(settings, options)
except KeyboardInterrupt:
    pass
distributed.close()
"""


def options(out: Path, **more) -> RunOptions:
    return RunOptions(out=out, device="cpu", data=out.parent, paper="evnas", section="run", given=frozenset(), **more)


def near(one: Path, two: Path, file: str) -> None:
    """The weights of two runs agree up to rounding; counters are equal."""
    ours, theirs = load_file(one / file), load_file(two / file)
    assert ours.keys() == theirs.keys() and len(ours) > 10
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, rtol=1e-3, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["darts", "nb201"])
def test_a_search_in_two_processes(name, tmp_path, two_processes):
    """The batch size is the whole batch's, the last batch of one image has an empty share, and the counts of a fitness
    pass are saved: stopped in the pass of an individual, the search ends as the uninterrupted one."""
    settings = SPACES[name]
    two_processes(["-c", JOB, name, str(tmp_path / "two"), "0"], PYTHONPATH=".")
    one = search(dataclasses.replace(settings, parts=2), options(tmp_path / "one"))
    near(tmp_path / "one", tmp_path / "two", "supernet.safetensors")
    found = json.loads((tmp_path / "two" / "result.json").read_text())
    assert found["processes"] == 2 and found["metrics"] == pytest.approx(one["metrics"])
    (a,), (b,) = (list(csv.DictReader((tmp_path / n / "history.csv").open(newline=""))) for n in ("one", "two"))
    assert float(a["train_loss"]) == pytest.approx(float(b["train_loss"]), rel=1e-4)
    # three steps and two batches for each individual: the fourth save is in the first pass, the sixth in the second
    for stop in ("4", "6"):
        two_processes(["-c", JOB, name, str(tmp_path / f"cut{stop}"), stop], PYTHONPATH=".", NAS_SAVE_EVERY_S="0")
        assert not (tmp_path / f"cut{stop}" / "result.json").exists()
    two_processes(["-c", JOB, name, str(tmp_path / "cut6"), "0"], PYTHONPATH=".", NAS_SAVE_EVERY_S="0")
    for file in ("result.json", "history.csv", "individuals.csv", "populations.npz", "supernet.safetensors"):
        assert (tmp_path / "cut6" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


@pytest.mark.slow
def test_a_training_in_two_processes(tmp_path, two_processes):
    """With drop path: stopped in the second epoch and resumed, equal to the uninterrupted run; the saved file holds the
    statistics that were tested."""
    two_processes(["-c", JOB, "train", str(tmp_path / "two"), "0"], PYTHONPATH=".")
    for stop in ("7", "0"):  # four steps and the epoch's end, then two steps
        two_processes(["-c", JOB, "train", str(tmp_path / "cut"), stop], PYTHONPATH=".", NAS_SAVE_EVERY_S="0")
    for file in ("result.json", "history.csv", "weights.safetensors"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


@pytest.mark.slow
def test_parts_and_processes_of_a_training_agree(tmp_path, two_processes):
    """Without chance in the network: weights, statistics and the tested error of one process with two parts."""
    quiet = dataclasses.replace(TRAIN, drop_path=0.0, parts=2)
    one = train(quiet, options(tmp_path / "one"))
    job = JOB.replace("TRAIN if", "dataclasses.replace(TRAIN, drop_path=0.0) if")
    two_processes(["-c", job, "train", str(tmp_path / "two"), "0"], PYTHONPATH=".")
    near(tmp_path / "one", tmp_path / "two", "weights.safetensors")
    found = json.loads((tmp_path / "two" / "result.json").read_text())["metrics"]
    assert found == pytest.approx(one["metrics"], rel=1e-3, abs=0.11)
    plain = train(dataclasses.replace(quiet, parts=0), options(tmp_path / "plain"))
    rows = [len((tmp_path / n / "history.csv").read_text().splitlines()) for n in ("one", "two", "plain")]
    assert rows == [3, 3, 3] and plain["metrics"]["parameters"] == found["parameters"]
