"""One command of a paper in which something happens: ``child.py SPEC PAPER WORD…``, forked from a warm server.

Places are the moments of a save (a temporary file is made, half of it written, all of it, it is on the disk, it has its
name, the folder is on the disk, a file is about to go, has gone, half a row is appended) and the beginning and the end
of a step. SPEC is JSON: {"die": N} SIGKILL (or {"signal": S}) at the N-th place; {"only": "step"} or "save" counts
places of that group alone; {"count": FILE} writes the names of all places there; from the N-th such act the disk fails
by {"fail": [act, N, errno]}; {"memory": FILE} writes the bytes held at every step's end; {"clock": S} moves the wall
clock by S seconds at every look; {"rank": R} is for that process of several.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.cli.verbs import main
from common.run import files, keep, seeds


class Places:
    """Counts the places and kills at one of them."""

    def __init__(self, spec: dict[str, Any]) -> None:
        mine = int(os.environ.get("RANK", "0")) == spec.get("rank", 0)
        self.die, self.only = spec.get("die", 0) if mine else 0, spec.get("only", "")
        self.count, self.passed, self.number = spec.get("count") if mine else None, list[str](), 0
        self.fail, self.failures = spec.get("fail"), 0
        self.signal = spec.get("signal", signal.SIGKILL)
        self.memory, self.held = spec.get("memory"), list[int]()

    def at(self, name: str) -> None:
        """The process is at a place; it may be its last."""
        if self.memory:
            if name == "ends":
                self.held.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
            return
        self.passed.append(name)
        group = "step" if name in ("begins", "ends") else "save"
        if self.only in ("", group):
            self.number += 1
            if self.number == self.die:
                os.kill(os.getpid(), self.signal)

    def disk(self, act: str) -> None:
        """The disk is about to act; it may fail."""
        if self.fail and self.fail[0] == act:
            self.failures += 1
            if self.failures >= self.fail[1]:
                raise OSError(self.fail[2], os.strerror(self.fail[2]))

    def write(self) -> None:
        """Leave the names of all places that were passed, or the memory at every step's end."""
        if self.count:
            Path(self.count).write_text(json.dumps(self.passed), encoding="utf-8")
        if self.memory:
            Path(self.memory).write_text(json.dumps(self.held), encoding="utf-8")


class Halting:
    """A file whose writes stop half way for a moment."""

    def __init__(self, file: Any, places: Places, name: str) -> None:
        self.file, self.places, self.name = file, places, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Halting:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: Any) -> None:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        self.places.at(self.name)
        self.places.disk("write")
        self.file.write(content[len(content) // 2 :])
        self.file.flush()


def between(places: Places, act: str, before: str, after: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """An act of the disk with a place before and behind it."""

    def acting(*args: Any, **more: Any) -> Any:
        if before:
            places.at(before)
        places.disk(act)
        done = real(*args, **more)
        if after:
            places.at(after)
        return done

    return acting


def watch(places: Places) -> None:
    """Put places around what the suite's writers and loops do; of this process alone."""
    os.replace = between(places, "rename", "", "renamed", os.replace)
    os.unlink = between(places, "unlink", "going", "gone", os.unlink)
    os.fsync = between(places, "fsync", "written", "synced", os.fsync)
    tempfile.mkstemp = between(places, "open", "", "made", tempfile.mkstemp)
    opened, fdopen = open, os.fdopen

    def halting(handle: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        file = fdopen(handle, mode, *args, **more)
        return Halting(file, places, "half") if mode == "wb" else file

    def appending(path: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        file = opened(path, mode, *args, **more)
        return Halting(file, places, "appending") if mode == "a" else file

    os.fdopen, files.open = halting, appending  # type: ignore[attr-defined]
    seeds.step_chance = between(places, "", "begins", "", seeds.step_chance)
    keep.Keeping._after = between(places, "", "ends", "", keep.Keeping._after)  # type: ignore[method-assign]


def run(spec: dict[str, Any], paper: str, words: list[str]) -> None:
    """The command, with places in it."""
    places = Places(spec)
    watch(places)
    if jump := spec.get("clock"):
        now, looks = time.time, itertools.count(1)
        time.time = lambda: now() + jump * next(looks)  # type: ignore[assignment]
    with contextlib.ExitStack() as stack:
        stack.callback(places.write)
        main(paper, importlib.import_module(f"papers.{paper}.__main__").VERBS, words)


if __name__ == "__main__":
    run(json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:])
