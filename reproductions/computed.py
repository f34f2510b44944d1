"""Values that only the code decides: ``describe:NAME:DATASET:KEY`` and ``call:MODULE:FUNCTION:ARG…`` of a claim.

Building and counting a hundred networks takes half a minute, and check, report and README tables all ask for the same
values, so they are kept (``kept.py``) under a hash of the code that made them: changed code computes anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import platform
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from common.run.files import write_json
from reproductions.claims import ROOT, Claim
from reproductions.results import RESULTS

KEPT = RESULTS / "scratch"
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "PyYAML", "tyro")
NOT_CODE = (".pyc", ".md", ".svg", ".html", ".css")


def value_of(claim: Claim) -> Any:
    """The claim's computed value, from this code's earlier computations where there is one.

    What is computed from a data file is computed anew each time: the file may have changed or gone.
    """
    if claim.hardest == "data":
        return compute(claim)
    if claim.compute.startswith("describe:"):
        return compute(claim)  # its description is kept, for all the claims about that network
    return _kept_or_made(claim.paper, f"{claim.paper}:{claim.compute}", lambda: compute(claim))


def compute(claim: Claim) -> Any:
    """The value, computed. Raises what the paper's code raises."""
    how, *rest = claim.compute.split(":")
    if how == "describe":
        name, dataset, key = (rest[0], None, rest[1]) if len(rest) == 2 else (rest[0], rest[1] or None, rest[2])
        value: Any = described(claim.paper, name, dataset)
        for part in key.split("."):
            value = value[part]
        return value
    module, function, *arguments = rest
    value = getattr(importlib.import_module(module), function)(*[_argument(a) for a in arguments])
    return list(value) if isinstance(value, tuple) else value


def described(
    paper: str, name: str, dataset: str | None, describe: Callable[..., dict[str, Any]] | None = None
) -> dict[str, Any]:
    """What ``describe NAME --dataset DATASET`` of a paper says, from this code's earlier computations.

    describe: what makes it, (settings, options) -> description; default the paper's verb.
    """
    from common.cli.stages import RunOptions

    stage = importlib.import_module(f"papers.{paper}.__main__").VERBS["describe"].stages[()]
    module, _, function = stage.run.partition(":")
    make = describe or getattr(importlib.import_module(module), function)
    settings = stage.settings(arch=name, **({"dataset": dataset} if dataset else {}))
    options = RunOptions(paper=paper, section=stage.section)
    return _kept_or_made(paper, f"{paper}:describe:{name}:{dataset or ''}", lambda: make(settings, options))


def _kept_or_made(paper: str, key: str, make: Callable[[], Any]) -> Any:
    path = KEPT / f"computed-{paper}-{code_key(paper)}.json"
    known = _kept(str(path))
    if key not in known:
        known[key] = make()
        with contextlib.suppress(OSError, TypeError, ValueError):  # a read-only checkout, or no JSON: nothing is kept
            write_json(path, known)
    return known[key]


def _argument(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@cache
def _kept(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


@cache
def code_key(paper: str) -> str:
    """Hash of the code of a paper and of ``common``, of their settings and pins, and of the libraries' versions."""
    digest = hashlib.sha256(platform.python_version().encode())
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            digest.update(f"{name} {version(name)}\0".encode())
    folders = (ROOT / "common", ROOT / "papers" / paper)
    add_files(digest, (p for folder in folders for p in folder.rglob("*") if p.is_file()))
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()[:24]


def add_files(digest: Any, paths: Iterable[Path]) -> None:
    for path in sorted(p for p in paths if p.suffix not in NOT_CODE):
        digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
