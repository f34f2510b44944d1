"""The installed command hands its words over, and the package holds every data file that the code reads."""

import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from reproductions import console

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "status", "shown"),
    [
        (["--help"], 0, "papers: cream, evnas, nao_v2, nsas, sgnas"),
        ([], 2, "usage: nas-replications"),
        (["evnas", "--help"], 0, "python -m papers.evnas VERB"),
        (["nao-v2", "--help"], 0, "python -m papers.nao_v2 VERB"),
        (["checkpoints", "--help"], 0, "usage"),
    ],
)
def test_words_go_to_the_papers_and_to_the_verbs(words, status, shown, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["nas-replications", *words])
    try:
        found = console.main()
    except SystemExit as left:
        found = left.code or 0
    assert found == status
    assert shown in capsys.readouterr().out


def test_a_wrong_word_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["nas-replications", "evnass"])
    assert console.main() == 2
    assert capsys.readouterr().err == "error: unknown paper or verb 'evnass'; did you mean 'evnas'?\n"


def test_every_data_file_of_the_code_is_in_the_package():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    listed = subprocess.check_output(
        ["git", "ls-files", "common", "papers", "reproductions"], cwd=ROOT, text=True
    ).split()
    files = [Path(name) for name in listed if not name.endswith(".py")]
    assert files
    assert [str(file) for file in files if not any(fnmatch(file.name, pattern) for pattern in patterns)] == []
