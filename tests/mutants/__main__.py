"""``make mutants`` or ``python -m tests.mutants [AREA | NAME ...]``: do the tests notice small wrong changes?

The YAML files beside this one are lists of wrong changes to the code of an area (``common`` and the papers):

    - name: clip-removed                     # unique within its file
      file: papers/evnas/search.py
      before: clip(parameters, clip_norm)    # text that stands in the file exactly once
      after: pass
      why: gradients are not cut
      tests: tests/evnas/test_loops.py       # the files or tests that should notice; several: a list

One change at a time is made in a scratch copy of the tree, never in the tree itself, and the named tests run there
until the first fails. Before that they run once without any change: they must pass. A change that cannot be imported,
or that stops all tests before they start, is an error of the list and no change that was noticed.

``results/mutants.json`` holds every change that was tried: noticed or survived, and the counts by area.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
LISTS = Path(__file__).parent
RECORD = ROOT / "results" / "mutants.json"
COPIED = ("common", "papers", "reproductions", "tests", "docs", "pyproject.toml", "README.md", "dvc.yaml", "dvc.lock")
PASSED, FAILED = 0, 1  # exit statuses of pytest
LIMIT_S = 900  # a change that makes the tests go on for ever is noticed
FIRST = ("torch", "torch.utils.data", "numpy", "scipy.stats", "torchvision", "safetensors.torch", "PIL.Image", "pytest")


class ListError(Exception):
    """A change that does not fit the code, or tests that fail without any."""


@dataclass(frozen=True)
class Change:
    """A wrong change: in ``file`` the text ``before`` becomes ``after``; one of ``tests`` should fail."""

    area: str
    name: str
    file: str
    before: str
    after: str
    why: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.area}/{self.name}"

    def apply(self, root: Path) -> str:
        """The file's text with the change. Raises ListError where the text does not stand there exactly once."""
        path = root / self.file
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text.count(self.before) != 1:
            raise ListError(f"{self}: the text before stands {text.count(self.before)} times in {self.file}")
        if self.before == self.after:
            raise ListError(f"{self} changes nothing")
        return text.replace(self.before, self.after)


def changes() -> list[Change]:
    """All changes of all lists. Raises ListError for a name that stands twice."""
    found: list[Change] = []
    for path in sorted(LISTS.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
            tests = entry.pop("tests")
            found.append(Change(path.stem, tests=tuple([tests] if isinstance(tests, str) else tests), **entry))
    names = [str(change) for change in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ListError(f"these names stand twice: {', '.join(twice)}")
    return found


def chosen(every: Sequence[Change], words: Sequence[str]) -> list[Change]:
    """Those that the words name: an area, a name, or AREA/NAME. Raises ListError for an unknown word."""
    for word in words:
        if not any(word in (c.area, c.name, str(c)) for c in every):
            raise ListError(f"no area and no change is called {word}")
    return [c for c in every if not words or {c.area, c.name, str(c)} & set(words)]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A copy of what the tests need, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        root = Path(folder)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif (ROOT / name).exists():
                shutil.copy(ROOT / name, root / name)
        yield root


def tested(root: Path, tests: Sequence[str]) -> int:
    """The exit status of pytest on ``tests`` in ``root`` until the first failure; negative: ended by a signal.

    A forked process runs them, so that torch is imported once.
    """
    sys.stdout.flush()
    child = os.fork()
    if not child:
        status = 70
        with contextlib.suppress(BaseException):
            status = _run(root, tests)
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run(root: Path, tests: Sequence[str]) -> int:
    os.chdir(root)
    for name in [n for n in sys.modules if n.partition(".")[0] in ("tests", "common", "papers", "reproductions")]:
        del sys.modules[name]
    sys.path[:] = [str(root), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
    signal.alarm(LIMIT_S)
    with (root / "output.txt").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        pytest = importlib.import_module("pytest")
        return int(pytest.main([*tests, "-x", "-q", "-p", "no:cacheprovider", "--tb=short"]))


def without(root: Path, tests: Sequence[str]) -> None:
    """The tests pass on unchanged code. Raises ListError."""
    if tested(root, tests) != PASSED:
        raise ListError(f"{' '.join(tests)} fails without any change:\n{said(root)}")


def said(root: Path) -> str:
    """The end of what the tests printed."""
    return (root / "output.txt").read_text(encoding="utf-8", errors="replace")[-1500:]


def tried(root: Path, change: Change) -> bool:
    """Whether the tests notice the change. Raises ListError for one that stops them before they start."""
    path = root / change.file
    text = path.read_text(encoding="utf-8")
    path.write_text(change.apply(root), encoding="utf-8")
    _forget(path)
    try:
        status = tested(root, change.tests)
    finally:
        path.write_text(text, encoding="utf-8")
        _forget(path)
    if status not in (PASSED, FAILED, -signal.SIGALRM):
        raise ListError(f"{change}: the tests did not run (status {status}):\n{said(root)}")
    return status != PASSED


def _forget(path: Path) -> None:
    """The compiled form of a source, which may look as new as the source."""
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def record(found: dict[str, str], every: Sequence[Change]) -> dict[str, Any]:
    """The record with what has been found, and without changes that are in no list any more; written to its file."""
    known = json.loads(RECORD.read_text(encoding="utf-8"))["changes"] if RECORD.exists() else {}
    all_of = {str(change): {**known, **found}.get(str(change)) for change in every}
    outcomes = {name: outcome for name, outcome in sorted(all_of.items()) if outcome}
    areas: dict[str, Any] = {}
    for area in sorted({change.area for change in every}):
        own = {name: outcome for name, outcome in outcomes.items() if name.startswith(f"{area}/")}
        survivors = [name for name, outcome in own.items() if outcome == "survived"]
        areas[area] = {"changes": len(own), "noticed": len(own) - len(survivors), "survivors": survivors}
    written = {"areas": areas, "changes": outcomes}
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return written


def main(argv: Sequence[str]) -> int:
    """0 when every change that was tried was noticed, 1 when some survived, 2 for an error of the lists."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="areas or names; default: all changes")
    parser.add_argument("--unchecked", action="store_true", help="do not run the tests without any change first")
    args = parser.parse_args(argv)
    for name in FIRST:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    found: dict[str, str] = {}
    try:
        every = changes()
        asked = chosen(every, args.words)
        for change in asked:
            change.apply(ROOT)
        with scratch() as root:
            if not args.unchecked:
                without(root, sorted({test for change in asked for test in change.tests}))
            for change in asked:
                start = time.monotonic()
                found[str(change)] = "noticed" if tried(root, change) else "survived"
                print(f"{found[str(change)]:8} {time.monotonic() - start:5.1f} s  {change}: {change.why}", flush=True)
    except ListError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if found:
            areas = record(found, changes())["areas"]
    for area, counts in areas.items():
        print(f"{area}: {counts['noticed']} of {counts['changes']} noticed", *counts["survivors"])
    return int("survived" in found.values())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
