"""Every entry says in a line how to get the environment, to a Python that is not of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import common

ROOT = Path(common.__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "words", [["-m", "papers.evnas"], ["-m", "reproductions", "claims"], ["nas-replications", "sgnas", "search"]]
)
def test_a_python_without_the_packages(words, tmp_path):
    if words[0] == "nas-replications":  # the script that pip writes
        words[0] = str(tmp_path / words[0])
        Path(words[0]).write_text(
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); from reproductions.console import main"
        )
    done = subprocess.run([sys.executable, "-S", *words], cwd=ROOT, capture_output=True, text=True)  # -S: no packages
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: this Python (")
    assert ("lacks torch, numpy" in done.stderr and "make venv" in done.stderr) or "activate" in done.stderr


def test_imported_it_is_the_usual_error():
    done = subprocess.run([sys.executable, "-S", "-c", "import papers.evnas"], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: this Python (")


def test_remedies(monkeypatch, tmp_path):
    assert common._remedy(str(tmp_path)) == "install the package with what it needs: pip install it without --no-deps"
    (tmp_path / "Makefile").touch()
    activate = f"activate the environment: source {tmp_path}/.venv/bin/activate"
    assert common._remedy(str(tmp_path)) == f"run make venv in {tmp_path}, then {activate}"
    (tmp_path / ".venv").mkdir()
    assert common._remedy(str(tmp_path)) == activate
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert common._remedy(str(tmp_path)) == f"run make venv in {tmp_path}"


def test_an_old_python(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    monkeypatch.setattr(sys, "argv", ["-m"])
    with pytest.raises(SystemExit) as left:
        common._check()
    assert left.value.code == 2 and "is 3.9, 3.11 or newer is needed; " in capsys.readouterr().err
