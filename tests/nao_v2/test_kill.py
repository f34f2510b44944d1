"""kill -9 inside the supernet's epoch, the controller's training and the generation: resumed runs give equal bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLAGS = """
search --valid-images 100 --train-images 128 --iterations 2 --seed-architectures 5 --new-architectures 30
--layers 1 --channels 2 --epochs 1 --batch-size 32 --score-images 20 --controller-epochs 4 --generation-seeds 4
--maximum-step 4 --on-empty random --final 1 --final-epochs 1 --device cpu
"""
PLACES = ("0,supernet,0,2", "0,controller,2,0", "0,generate,0,2", "1,supernet,0,3")  # iteration, stage, epoch, step
PROGRAM = """
import os, signal, sys
from common.cli.verbs import main
from common.run.folder import Run
from papers.nao_v2.__main__ import VERBS

save, place = Run.save, sys.argv[1]

def dying(self, state):
    if ",".join(map(str, state["position"])) == place:
        os.kill(os.getpid(), signal.SIGKILL)  # before the save: the work since the last one is lost
    save(self, state)

Run.save = dying
main("nao_v2", VERBS, sys.argv[2:])
"""


def run(place: str, out: Path) -> int:
    environment = {**os.environ, "NAS_SAVE_EVERY_S": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, place, *FLAGS.split(), "--out", str(out)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, timeout=300, check=False).returncode


def test_killed_four_times(tmp_path):
    assert run("never", tmp_path / "whole") == 0
    for place in PLACES:
        assert run(place, tmp_path / "parts") == -signal.SIGKILL, place
        assert not (tmp_path / "parts" / "result.json").exists()
    assert run("never", tmp_path / "parts") == 0
    names = [p.name for p in (tmp_path / "whole").iterdir() if p.suffix == ".csv" or p.name.startswith("arch_pool")]
    assert {"history.csv", "controller.csv", "generation.csv", "pool.csv", "final.csv"} <= set(names)
    for name in ("result.json", "architecture.json", *names):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
