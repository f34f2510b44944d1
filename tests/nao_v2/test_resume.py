"""Killed or stopped anywhere and started again: the same bytes as without."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from common.cli.verbs import RunOptions
from common.errors import UserError
from common.run.folder import Run
from papers.nao_v2 import search as search_module
from papers.nao_v2.search import search
from papers.nao_v2.settings import Search
from tests import fresh

FLAGS = """
search --valid-images 100 --train-images 128 --iterations 2 --seed-architectures 5 --new-architectures 30
--layers 1 --channels 2 --epochs 1 --batch-size 32 --score-images 20 --controller-epochs 4 --generation-seeds 4
--maximum-step 4 --on-empty random --final 1 --final-epochs 1 --device cpu
"""
PLACES = (  # where each process is killed: the names and numbers of the loops it is inside
    [["iteration", 0], ["epoch", 0], ["step", 2]], [["iteration", 0], ["controller epoch", 2]],
    [["iteration", 0], ["latent step", 2]], [["iteration", 1], ["epoch", 0], ["step", 3]],
    [["iteration", 1], ["score", 5]], [["finalist", 0], ["epoch", 0], ["step", 1]],
)  # fmt: skip
NEVER: list[list[object]] = []
PROGRAM = """
import json, os, signal, sys
from common.cli.verbs import main
from common.run.folder import Run
from papers.nao_v2.__main__ import VERBS

write, place = Run.write_state, json.loads(sys.argv[1])

def dying(self, state):
    if state["position"] == place:
        os.kill(os.getpid(), signal.SIGKILL)  # before the save: the work since the last one is lost
    write(self, state)

Run.write_state = dying
main("nao_v2", VERBS, sys.argv[2:])
"""


TINY = Search(
    dataset="digits",
    valid_images=100,
    train_images=64,
    iterations=2,
    seed_architectures=5,
    new_architectures=3,
    layers=1,
    channels=2,
    epochs=1,
    batch_size=32,
    score_images=20,
    controller_epochs=4,
    generation_seeds=4,
    on_empty="random",
    maximum_step=4,
    final=1,
    final_epochs=1,
    final_batch_size=32,
    final_auxiliary=False,
    final_dropout_keep=0.9,
    final_drop_path_keep=0.9,
)


def options(folder):
    return RunOptions(out=folder, device="cpu", paper="nao_v2", section="search")


class Stop(Exception):
    pass


def test_search_resumes_everywhere(tmp_path, monkeypatch):
    """Stopped after every few saves and started again, inside supernet, controller and generation: same bytes."""
    whole = search(TINY, options(tmp_path / "whole"))
    assert whole["metrics"]["pool"] > 5 and whole["metrics"]["supernet_steps"] == 4
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    write, left = Run.write_state, [0]

    def stopping(self, state):
        write(self, state)
        left[0] -= 1
        if left[0] == 0:
            raise Stop

    monkeypatch.setattr(Run, "write_state", stopping)
    for _ in range(40):
        left[0] = 7
        try:
            search(TINY, options(tmp_path / "parts"))
            break
        except Stop:
            continue
    for name in ("result.json", "architecture.json", "history.csv", "controller.csv", "pool.csv", "arch_pool.1"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_nothing_new_stops_with_the_state_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(search_module.pool, "select_new", lambda *a: a[2])
    settings = replace(TINY, on_empty="stop", maximum_step=2)
    with pytest.raises(UserError, match="no new architecture"):
        search_module.search(settings, options(tmp_path / "r"))
    assert list((tmp_path / "r" / "state").glob("state-*.pt"))
    result = search_module.search(replace(settings, on_empty="random"), options(tmp_path / "r"))  # goes on from there
    assert result["metrics"]["new_architectures"] == 3


def run(place: list[list[object]], out: Path) -> int:
    environment = {**os.environ, "NAS_SAVE_EVERY_S": "0", "OMP_NUM_THREADS": "1"}
    return fresh.run(["-c", PROGRAM, json.dumps(place), *FLAGS.split(), "--out", str(out)], environment).returncode


def test_killed_in_every_loop(tmp_path):
    assert run(NEVER, tmp_path / "whole") == 0
    for place in PLACES:
        assert run(place, tmp_path / "parts") == -signal.SIGKILL, place
        assert not (tmp_path / "parts" / "result.json").exists()
    assert run(NEVER, tmp_path / "parts") == 0
    names = [p.name for p in (tmp_path / "whole").iterdir() if p.suffix == ".csv" or p.name.startswith("arch_pool")]
    assert {"history.csv", "controller.csv", "generation.csv", "pool.csv", "final.csv"} <= set(names)
    for name in ("result.json", "architecture.json", *names):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
