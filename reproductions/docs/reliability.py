"""docs/reliability.md from ``results/reliability.json``: faults that were injected on purpose, and what survived them.

``make reliability`` injects them and writes the record; this page only counts.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.papers import PAPERS
from reproductions.claims import ROOT

PAGE, RECORD = Path("docs/reliability.md"), ROOT / "results" / "reliability.json"
KINDS = {
    "kill": "SIGKILL inside a save, at a step's beginning or end, or at any time; restarted until it was done: all "
    "outputs have the bytes of a run that was left alone",
    "two processes": "the same to one of two processes, whose launcher then ends the other",
    "stop": "SIGTERM or Ctrl-C at a step: one line; the run goes on behind that step, none is repeated, the bytes are "
    "the same",
    "disk": "write, fsync or rename fails (disk full, I/O error) from some moment on: one line, no litter; afterwards "
    "the same command ends with the bytes of a run that was left alone",
    "corruption": "bits flipped, files cut, emptied or exchanged: noticed and named, the state before is taken",
    "hostile files": "pickles that would run code, zips and YAML that explode, absurd shapes, image bombs: "
    "refused in one line, in bounded time and memory",
    "numbers": "NaN or infinity in losses, gradients, buffers, predictions: nothing is updated, the message says where",
    "fuzzing": "texts, files and flags by chance: a result or one line, never a traceback",
    "determinism": "the same seed again, another number of workers, another saving interval: the same bytes",
    "concurrency": "two commands at the same instant into one folder, for one file: one does it, the other waits or is "
    "one line",
    "long runs": "long runs, many resumes, clocks set back: memory flat, histories whole",
}
HEAD = """# What it withstands

Faults that were injected on purpose, in real processes and files, at sizes of seconds. `make reliability` injects them
and writes [results/reliability.json](../results/reliability.json), from which `python -m reproductions readme`
generates this page; `make test` holds a small part of them. *Survived / injected*, by paper; *all papers* is code that
they share. A dash: not injected there.
"""


def pages() -> dict[Path, str]:
    """The page, where there is a record. Raises UserError for a damaged record."""
    if not RECORD.exists():
        return {}
    try:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
        return {PAGE: page(record["counts"], record["environment"])}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{RECORD.relative_to(ROOT)} is damaged ({error!r}); restore it with git checkout") from None


def page(counts: list[dict[str, Any]], environment: dict[str, dict[str, Any]]) -> str:
    """The page's text."""
    columns = [*PAPERS, "all papers"]
    lines = [HEAD, f"| what | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    kinds = [*KINDS, *sorted({row["kind"] for row in counts} - set(KINDS))]
    by_place: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in counts:
        by_place[row["kind"], row["paper"]].append(row)
    present = [kind for kind in kinds if any(row["kind"] == kind for row in counts)]
    for kind in present:
        cells = [_sum(by_place[kind, paper]) for paper in columns]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    lines += ["", "What is done, and what surviving means:", ""]
    lines += [f"- **{kind}**: {KINDS[kind]}" if kind in KINDS else f"- **{kind}**" for kind in present]
    lines += [
        "",
        "## By command",
        "",
        "| what | paper | command | injected | survived |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for row in sorted(counts, key=lambda r: (kinds.index(r["kind"]), r["paper"], r["case"])):
        lines.append(f"| {row['kind']} | {row['paper']} | {row['case']} | {row['injected']} | {row['survived']} |")
    lines += ["", "Injected on: " + "; ".join(f"{kind}: {_where(environment[kind])}" for kind in present
                                              if kind in environment) + ".", ""]  # fmt: skip
    return "\n".join(lines)


def _sum(rows: list[dict[str, Any]]) -> str:
    return f"{sum(r['survived'] for r in rows)} / {sum(r['injected'] for r in rows)}" if rows else "–"


def _where(found: dict[str, Any]) -> str:
    return f"{found['system']}, {found['cores']} cores, Python {found['python']}, torch {found['torch']}"
