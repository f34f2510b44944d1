"""The commands of the README's blocks run one after another in one folder, each in a default folder of its own."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from common.cli.verbs import main
from papers.evnas.__main__ import VERBS
from tests.plain import photographs

ROOT = Path(__file__).resolve().parents[2]

SMALLER = {  # shorter runs: their folders and what they print are the same
    "search": ["--generations", "1", "--train-images", "64", "--fitness-images", "60", "--fitness-batch-size", "60"],
    "train": ["--epochs", "1", "--train-images", "64"],
}


@pytest.mark.slow
def test_commands_run_in_order_in_one_folder(tmp_path, monkeypatch, capsys):
    text = (ROOT / "papers" / "evnas" / "README.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```bash\n(.*?)```", text, flags=re.S) for line in block.splitlines()]
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path)
    ran = []
    for line in [*lines, "python -m papers.evnas train --profile smoke --arch EvNASB"]:
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "papers.evnas"]
        if "paper" in words:
            continue  # sets that are not here; tests/reproductions reads their settings
        main("evnas", VERBS, words[3:] + SMALLER.get(words[3], []))
        printed = capsys.readouterr().out
        assert printed, line
        ran.append(line)
    assert len(ran) >= 9
    folders = {p.name for p in (tmp_path / "results" / "smoke" / "evnas").iterdir()}
    wanted = {"search-seed0", "search_nb201-batch-seed0", "train-seed0", "train-EvNASB-seed0"}
    assert {*wanted, "train-train-search-seed0-seed0-seed0"} <= folders
