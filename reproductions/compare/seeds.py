"""``python -m reproductions seeds``: a pipeline's runs for several seeds, without DVC.

The commands are those of the pipeline's stages with another seed in their place: nothing is written twice. A finished
run is recognised and a killed one goes on, so the verb can be called again. The smoke expectations come from it:

    python -m reproductions seeds --seeds 0 1 2 3 4
    python -m reproductions check --regen
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from common.errors import UserError
from common.papers import PAPERS
from reproductions.arguments import OneLineParser
from reproductions.claims import ROOT

PIPELINES = {
    "smoke": ROOT / "dvc.yaml",
    "proxy": ROOT / "reproductions" / "proxy" / "dvc.yaml",
    "paper": ROOT / "reproductions" / "paper" / "dvc.yaml",
}
_ITEM = re.compile(r"\$\{item\.(\w+)\}")


def main(argv: list[str]) -> int:
    parser = OneLineParser(prog="python -m reproductions seeds", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--profile", choices=sorted(PIPELINES), default="smoke")
    parser.add_argument("--paper", default="", help="only this paper's runs")
    parser.add_argument("--list", action="store_true", help="print the commands, run nothing")
    args = parser.parse_args(argv)
    todo = [line for seed in args.seeds for line in commands(PIPELINES[args.profile], seed, args.paper)]
    if not todo:
        raise UserError(f"the {args.profile} pipeline has no runs of {args.paper!r}; leave --paper out to see all")
    failed = []
    for number, line in enumerate(todo, start=1):
        print(line if args.list else f"[{number}/{len(todo)}] {line}", flush=True)
        words = shlex.split(line)
        if not args.list and subprocess.run([sys.executable, *words[1:]], cwd=ROOT).returncode:
            failed.append(line)  # the others go on, as with dvc repro -k
    for line in failed:
        print(f"FAILED {line}", file=sys.stderr)
    return 1 if failed else 0


def commands(pipeline: Path, seed: int, paper: str = "") -> list[str]:
    """The pipeline's ``python -m papers.…`` commands for one seed, in its order: one for each matrix combination."""
    found = []
    for stage in yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"].values():
        matrix = stage.get("matrix", {})
        template = " ".join(str(stage.get("cmd", "")).split())
        if "seed" not in matrix or not template.startswith("python -m papers."):
            continue
        matrix = {key: PAPERS if values == "${PAPERS}" else values for key, values in matrix.items()}
        for values in combinations({**matrix, "seed": [seed]}):
            line = _ITEM.sub(lambda match: str(values[match.group(1)]), template)  # noqa: B023
            if not paper or line.startswith(f"python -m papers.{paper} "):
                found.append(line)
    return found


def combinations(matrix: dict[str, list]) -> list[dict[str, object]]:
    """Every combination of a matrix's values, the last key varying fastest."""
    rows: list[dict[str, object]] = [{}]
    for key, values in matrix.items():
        rows = [{**row, key: value} for row in rows for value in values]
    return rows
