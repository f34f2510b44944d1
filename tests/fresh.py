"""Python programs as processes of their own, without the seconds in which each would import torch anew.

``run`` and ``start`` take what would follow ``python`` on a command line. A server that has imported the suite, but has
run none of it, forks every process, so a program finds the modules as they are after import. Tests of what is imported,
or of the environment, start a real interpreter instead.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIRST = (
    "torch", "torch.utils.data", "torch.distributed", "torch._dynamo", "scipy.stats", "tests.fresh",
    "common.train.loop", "common.cli.verbs", "common.spaces.nasbench201.train",
    *(f"papers.{paper}.{verb}" for paper in ("cream", "evnas", "nao_v2", "nsas", "sgnas")
      for verb in ("search", "train", "evaluate")),
    *(f"papers.nsas.{module}" for module in ("search_random", "search_gdas", "recurrent.search", "recurrent.train",
                                             "nasbench201.search_random", "nasbench201.search_gdas")),
)  # fmt: skip


@functools.cache
def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(FIRST))
    return context


class Job:
    """A running program, with the methods of ``subprocess.Popen`` that tests use."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], cwd: Path) -> None:
        self.words, self.returncode = list(words), None
        self._folder = tempfile.TemporaryDirectory()
        self._said = [Path(self._folder.name, name) for name in ("out", "err")]
        for path in self._said:  # a process may be killed before it opens them
            path.touch()
        with _started_at_home():
            self._process = _context().Process(
                target=_child, args=(self.words, dict(environment), str(cwd), self._said)
            )
            self._process.start()
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status at its end. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(self.words, timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        """As ``os.kill``."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """(standard output, standard error) at its end; a program that takes longer is killed."""
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in self._said)
        return out, err


def start(words: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Job:
    """``python WORDS`` in the background. environment: all of it, as ``subprocess`` takes it; None: this process's."""
    return Job(list(map(str, words)), os.environ if environment is None else environment, cwd)


def run(
    words: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path = ROOT, timeout: float = 600
) -> subprocess.CompletedProcess:
    """``python WORDS`` to its end: exit status, standard output and standard error."""
    job = start(words, environment, cwd)
    out, err = job.communicate(timeout)
    return subprocess.CompletedProcess(words, job.wait(), out, err)


def pair(words: Sequence[str], environment: Mapping[str, str], cwd: Path = ROOT) -> list[Job]:
    """``python WORDS`` as the two processes of one gloo job, as torchrun would start them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {**environment, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
              "MASTER_PORT": str(port)}  # fmt: skip
    return [start(words, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, cwd) for rank in range(2)]


@contextlib.contextmanager
def _started_at_home() -> Any:
    """The server, which the first process starts, must find the suite wherever a test stands."""
    here, path = os.getcwd(), os.environ.get("PYTHONPATH")
    os.chdir(ROOT)
    os.environ["PYTHONPATH"] = str(ROOT)
    try:
        yield
    finally:
        os.chdir(here)
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path


def _child(words: list[str], environment: dict[str, str], cwd: str, said: list[Path]) -> None:
    """Runs in the new process: what the interpreter does with its command line."""
    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background of a shell ignores it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    import torch

    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", torch.get_num_threads())))
    paths = [os.path.abspath(path) for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    flag, rest = words[0], words[1:]
    sys.path[:0] = [os.path.dirname(os.path.abspath(flag)) if flag not in ("-c", "-m") else "", *paths]
    if flag == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif flag == "-c":
        sys.argv = ["-c", *rest[1:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        sys.argv = words
        runpy.run_path(flag, run_name="__main__")
