"""What was injected and what survived: ``results/reliability.json``, from which docs/reliability.md is generated."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from common.run.files import held, write_json

ROOT = Path(__file__).resolve().parents[3]
RECORD = ROOT / "results" / "reliability.json"


class Count(NamedTuple):
    """Faults of one kind that were injected into one command of a paper ("all papers" where the code is common)."""

    kind: str
    paper: str
    case: str
    injected: int
    survived: int


def record(counts: Iterable[Count], path: Path = RECORD) -> None:
    """Put counts into the record; those of the same kind, paper and case are replaced. Several may write at once."""
    with held(path.with_name(f".{path.name}.lock"), busy=lambda _: None):
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"counts": [], "environment": {}}
        rows = {_key(row): row for row in kept["counts"]}
        for count in counts:
            rows[_key(count._asdict())] = count._asdict()
            kept["environment"][count.kind] = environment()
        kept["counts"] = [rows[key] for key in sorted(rows)]
        write_json(path, kept)


def environment() -> dict[str, Any]:
    """What the faults were injected on; names no machine."""
    return {
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "system": platform.system(),
        "cores": os.cpu_count(),
    }


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["kind"], row["paper"], row["case"]
