"""Scratch checkouts where real dvc runs the real dvc.yaml files; the papers' trainers are replaced by instant ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from common.papers import PAPERS

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = ("dvc.yaml", "common/profiles/smoke.yaml", "common/papers.py", ".dvcignore", ".gitignore", ".dvc/config")
# Writes the files a stage declares, from its parameters alone, and leaves a line in calls.log.
STUB = """
import hashlib, json, sys
from pathlib import Path
import yaml
paper, words = Path(__file__).parent.name, sys.argv[1:]
out, profile = Path(words[words.index("--out") + 1]), words[words.index("--profile") + 1]
section = out.name.rsplit("-", 1)[0]
file = f"common/profiles/{profile}.yaml"
settings = yaml.safe_load(open(file))[paper].get(section, {})
inputs = [Path(words[words.index(f) + 1]).read_text() for f in ("--arch", "--checkpoint") if f in words]
content = hashlib.sha256(json.dumps([paper, section, settings, inputs], sort_keys=True).encode()).hexdigest()
out.mkdir(parents=True, exist_ok=True)
result = {"paper": paper, "stage": section, "profile": profile, "seed": 0, "settings": settings,
          "metrics": {"top1_error_percent": int(content[:4], 16) / 4096, "parameters": 100}, "content": content}
(out / "result.json").write_text(json.dumps(result))
(out / "architecture.json").write_text(content)
(out / "weights.safetensors").write_text(content)
(out / "history.csv").write_text("epoch,loss\\n0,1.0\\n1,0.5\\n")
with open("calls.log", "a") as log:
    log.write(f"{paper}/{section}\\n")
"""
CHECK = """
import json, sys
import common.papers
from pathlib import Path
if sys.argv[1] == "check":
    folder = Path(sys.argv[sys.argv.index("--metrics") + 1])
    folder.mkdir(parents=True, exist_ok=True)
    for paper in common.papers.PAPERS:
        (folder / f"{paper}.json").write_text(json.dumps({"train": {"top1_error_percent": 5.0}}))
"""


@dataclass
class Scratch:
    """A checkout of its own with dvc in it."""

    folder: Path

    def dvc(self, *words: str, status: int | None = 0) -> str:
        """Output of a dvc command; its exit status is asserted unless None."""
        env = {
            **os.environ,
            "DVC_NO_ANALYTICS": "1",
            "PYTHONPATH": str(self.folder),
            "NAS_DATA": str(self.folder / "none"),
        }
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *words],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        text = done.stdout + done.stderr
        assert status is None or done.returncode == status, text
        return text

    def calls(self) -> set[str]:
        """Stages that ran since the last call of this."""
        log = self.folder / "calls.log"
        found = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        assert len(found) == len(set(found)), found
        return set(found)

    def set(self, paper: str, section: str, value: object) -> None:
        """Change one setting of the smoke profile."""
        path = self.folder / "common" / "profiles" / "smoke.yaml"
        content = yaml.safe_load(path.read_text())
        content[paper][section]["changed_by_the_test"] = value
        path.write_text(yaml.safe_dump(content))


def scratch(folder: Path) -> Scratch:
    """Pipeline files of the repository, instant trainers, git and dvc."""
    for name in PIPELINE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for paper in PAPERS:
        (folder / "papers" / paper).mkdir(parents=True)
        (folder / "papers" / paper / "__main__.py").write_text(STUB)
        (folder / "papers" / paper / "README.md").write_text("text\n")
    for room in ("cli", "data", "run", "spaces", "train", "weights"):
        (folder / "common" / room).mkdir()
        (folder / "common" / room / "__init__.py").write_text("")
    (folder / "calls.log").unlink(missing_ok=True)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return Scratch(folder)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    """The smoke pipeline after its first run, cut to two papers to save time."""
    made = scratch(tmp_path_factory.mktemp("smoke"))
    path = made.folder / "dvc.yaml"
    text = re.sub(r"paper: \$\{PAPERS\}", "paper: [evnas, nsas]", path.read_text())
    text = re.sub(r"      - results/smoke/(cream|nao_v2|sgnas)/.*result.json\n", "", text)
    path.write_text(text)
    (made.folder / "reproductions" / "expected").mkdir(parents=True)
    (made.folder / "reproductions" / "expected" / "smoke.json").write_text("{}")
    for name in ("check.py", "compare/groups.py"):
        (made.folder / "reproductions" / name).parent.mkdir(exist_ok=True)
        (made.folder / "reproductions" / name).write_text("")
    (made.folder / "reproductions" / "__main__.py").write_text(CHECK)
    made.dvc("repro", "dvc.yaml")
    return made


@pytest.fixture
def scratch_checkout():
    """Makes a scratch checkout in a folder."""
    return scratch


@pytest.fixture
def repository() -> Path:
    return ROOT
