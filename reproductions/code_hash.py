"""One hash for all the code that a paper's numbers depend on."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from reproductions.claims import ROOT
from reproductions.results import RESULTS

KEPT = RESULTS / "scratch"
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "PyYAML", "tyro")
NOT_CODE = (".pyc", ".md", ".svg", ".html", ".css")


@cache
def code_key(paper: str) -> str:
    """Hash of the code of a paper and of ``common``, of their settings and pins, and of the libraries' versions."""
    digest = hashlib.sha256(platform.python_version().encode())
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            digest.update(f"{name} {version(name)}\0".encode())
    folders = (ROOT / "common", ROOT / "papers" / paper)
    add_files(digest, (p for folder in folders for p in folder.rglob("*") if p.is_file()))
    for path in (ROOT / "reproductions" / "computed.py", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def add_files(digest: Any, paths: Iterable[Path]) -> None:
    for path in sorted(p for p in paths if p.suffix not in NOT_CODE):
        digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
