"""The Slurm scripts of docs/clusters.md, with stand-ins for what a cluster has: they start the commands they should."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from common.papers import PAPERS
from reproductions.claims import command_problem

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clusters.md"
SCRIPTS = re.findall(r"```slurm\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
SHOWS = '#!/bin/bash\nprintf "%s " "$(basename "$0")" "$@"; echo\n'


@pytest.fixture
def started(tmp_path):
    """``run(script, **environment)``: the commands that the script starts, one a line."""
    places = tmp_path / "bin", tmp_path / ".venv" / "bin"
    for place in places:
        place.mkdir(parents=True)
    (places[1] / "activate").write_text("")
    (places[0] / "scontrol").write_text("#!/bin/bash\necho node7\necho node8\n")
    (places[0] / "srun").write_text('#!/bin/bash\n"$@"\n')
    for name in ("python", "torchrun"):
        (places[0] / name).write_text(SHOWS)
    for file in places[0].iterdir():
        file.chmod(0o755)

    def run(script: str, **environment: str) -> list[str]:
        found = {"PATH": f"{places[0]}:{os.environ['PATH']}", **environment}
        done = subprocess.run(
            ["bash", "-eu"], input=script, text=True, capture_output=True, cwd=tmp_path, env=found, check=True
        )
        return [line.strip() for line in done.stdout.splitlines()]

    return run


def test_one_job_on_two_nodes(started):
    (line,) = started(SCRIPTS[0], SLURM_NNODES="2", SLURM_JOB_ID="42", SLURM_JOB_NODELIST="node[7-8]")
    assert line.startswith("torchrun --nnodes 2 --nproc-per-node 4 ")
    assert "--rdzv-endpoint node7:29500 --rdzv-id 42 " in line
    assert not command_problem("python " + line[line.index("-m ") :])


def test_an_array_of_all_searches_and_seeds(started):
    lines = [started(SCRIPTS[1], SLURM_ARRAY_TASK_ID=str(number))[0] for number in range(15)]
    wanted = {f"python -m papers.{paper} search --profile paper --seed {seed}" for paper in PAPERS for seed in range(3)}
    assert set(lines) == wanted and "#SBATCH --array=0-14" in SCRIPTS[1]
    assert not any(map(command_problem, lines))
