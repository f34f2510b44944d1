"""docs/own_data.md: every command on it runs as it stands, on a folder as it describes."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

from common.cli.verbs import main
from tests.plain import ROOT, own_pictures

PAGE = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")
BLOCKS = [block.strip().splitlines() for block in re.findall(r"```bash\n(.*?)```", PAGE, re.S)]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    own_pictures(folder / "pictures")
    return folder


@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_every_command_of_the_page(block, place, monkeypatch):
    monkeypatch.chdir(place)
    for line in BLOCKS[block]:
        python, flag, module, *words = shlex.split(line)
        assert (python, flag) == ("python", "-m") and module.startswith("papers.")
        main(module.removeprefix("papers."), importlib.import_module(f"{module}.__main__").VERBS, words)
        if "--out" in words:
            result = json.loads((place / words[words.index("--out") + 1] / "result.json").read_text())
            assert result["metrics"] and (result.get("unpinned_data") or "kjv" in words), line


def test_the_page_names_every_paper_and_search():
    commands = [line for block in BLOCKS for line in block]
    for paper in ("cream", "evnas", "nao_v2", "nsas", "sgnas"):
        assert {"search", "train"} <= {line.split()[3] for line in commands if f"papers.{paper} " in line}
    assert sum("papers.nsas search" in line for line in commands) == 5  # two spaces, two methods, and texts
