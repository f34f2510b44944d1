"""Running the tiny search as a program."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import fresh

PROGRAM = Path(__file__).with_name("tiny_search.py")


def command(out, *flags):
    return [sys.executable, str(PROGRAM), "search", "--out", str(out), "--device", "cpu", *map(str, flags)]


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", "NAS_SAVE_EVERY_S": "0", **more}


@pytest.fixture
def tiny():
    """tiny(out, *flags) runs to the end; tiny.start(...) returns the process."""

    def run(out, *flags, **env):
        return fresh.run(command(out, *flags)[1:], environment(**env), timeout=120)

    def start(out, *flags, **env):
        return fresh.start(command(out, *flags)[1:], environment(**env))

    run.start, run.program = start, PROGRAM
    return run


@pytest.fixture
def here(monkeypatch, capsys):
    """here(out, *flags) runs the tiny search in this process; returns (exit status, stdout, stderr)."""
    spec = importlib.util.spec_from_file_location("tiny_search", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "tiny_search", module)
    spec.loader.exec_module(module)
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "60")  # only at the end of an epoch

    def run(out, *flags):
        status = 0
        try:
            module.main("tiny", module.VERBS, command(out, *flags)[2:])
        except SystemExit as leaving:
            status = leaving.code or 0
        caught = capsys.readouterr()
        return subprocess.CompletedProcess([], status, caught.out, caught.err)

    return run


def one_line(done, status=2):
    """The program ended with one clear line and no traceback."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: "), done.stderr
    assert done.stderr.count("error: ") == 1
    return last


@pytest.fixture(name="one_line")
def one_line_fixture():
    return one_line
