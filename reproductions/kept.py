"""Verdicts and computed values that are kept between calls, under a hash of everything they were made from.

Deciding all claims imports five papers and counts a hundred networks, a minute and a half of a CPU core; nothing of it
changes until a file does. A kept file's name is the hash of what it depends on: every file of the code, of its
settings and pins, the claims, the results, the data tables that claims look up, and the versions of the libraries. So a
kept value cannot be stale: anything changed gives another name, under which there is nothing yet. ``results/scratch``
holds the files; deleting it is always safe.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from common.data.pins import data_root
from common.papers import PAPERS
from common.run.files import write_json
from reproductions.claims import FOLDER, ROOT, Claim, load_all
from reproductions.computed import KEPT, add_files, code_key
from reproductions.results import Result
from reproductions.verdicts import Smaller, Verdict, decide_all

LOOKED_UP = ("nasbench201", "sgnas")  # folders of the data root whose contents claims are computed from
DECIDES = ("reproductions", "reproductions/compare", "reproductions/checkpoints")
SHOWS = ("listing.py", "seeds.py", "commands.py")
WHOLE = 64 * 2**20  # bytes; the benchmark's own file of several GB is known by size and time of change


def verdicts(claims: list[Claim], results: list[Result]) -> list[Verdict]:
    """``decide_all(claims, results)``, a paper's verdicts from an earlier call where nothing they rest on has changed.

    Where only some claims of a paper are asked for and nothing is kept, these alone are decided.
    """
    found: dict[str, Verdict] = {}
    for paper in PAPERS:
        mine = [c for c in claims if c.paper == paper]
        if not mine:
            continue
        of_paper = [r for r in results if r.paper == paper]
        path = KEPT / f"verdicts-{paper}-{verdicts_key(paper, of_paper)}.json"
        known = _read(path)
        if known is None:
            everything = {c.id for c in load_all(paper)} <= {c.id for c in mine}
            decided = decide_all(mine, of_paper)
            if everything:
                _keep(path, {v.claim.id: _plain(v) for v in decided}, f"verdicts-{paper}-")
        else:
            decided = [_verdict(c, known[c.id]) if c.id in known else decide_all([c], of_paper)[0] for c in mine]
        found |= {v.claim.id: v for v in decided}
    return [found[c.id] for c in claims]


def verdicts_key(paper: str, results: Iterable[Result]) -> str:
    """Hash of all that a paper's verdicts depend on."""
    digest = hashlib.sha256(code_key(paper).encode() + (FOLDER / f"{paper}.yaml").read_bytes())
    add_files(
        digest, (p for folder in DECIDES for p in (ROOT / folder).iterdir() if p.is_file() and p.name not in SHOWS)
    )
    for result in results:
        digest.update(f"{result.path}\0{json.dumps(result.raw, sort_keys=True)}\0".encode())
    _add_data(digest)
    return digest.hexdigest()[:24]


def _add_data(digest: Any) -> None:
    """The tables that claims are looked up in, as they lie under the data root now."""
    root = data_root()
    digest.update(f"{root}\0{os.environ.get('NAS_DATA', '')}\0".encode())
    for path in sorted(p for name in LOOKED_UP for p in (root / name).rglob("*") if p.is_file()):
        state = path.stat()
        digest.update(f"{path.relative_to(root)}\0{state.st_size}\0".encode())
        digest.update(path.read_bytes() if state.st_size <= WHOLE else str((state.st_mtime_ns, state.st_ino)).encode())


def _plain(v: Verdict) -> dict[str, Any]:
    held = {f.name: getattr(v, f.name) for f in fields(Verdict) if f.name not in ("claim", "smaller")}
    smaller = [asdict(s) | {"sd": _none(s.sd)} for s in v.smaller]
    return {**held, "sd": _none(v.sd), "smaller": smaller}


def _verdict(claim: Claim, held: dict[str, Any]) -> Verdict:
    interval = held["interval"]
    smaller = tuple(Smaller(**{**s, "sd": _nan(s["sd"])}) for s in held["smaller"])
    values = {**held, "sd": _nan(held["sd"]), "interval": tuple(interval) if interval else None}
    return Verdict(claim, **{**values, "sources": tuple(held["sources"]), "smaller": smaller})


def _none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _keep(path: Path, content: Any, prefix: str) -> None:
    """Write ``path`` and forget what earlier code left under the same prefix; a read-only checkout keeps nothing."""
    with contextlib.suppress(OSError, TypeError, ValueError):
        earlier = sorted(path.parent.glob(f"{prefix}*.json"), key=lambda p: p.stat().st_mtime)
        for old in earlier[:-4]:  # a few, so that switching between two commits or data roots stays quick
            old.unlink()
        write_json(path, content)
