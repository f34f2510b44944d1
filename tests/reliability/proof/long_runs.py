"""Long runs: the memory of a search of thousands of steps stays flat; a history of many sessions is whole."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.reliability.proof import cases
from tests.reliability.proof.cases import Case, words_of
from tests.reliability.proof.counts import Count
from tests.reliability.proof.kills import ended

STEPS, RESUMES, GROWTH = 5000, 20, 0.02
# paper-case: the flag that says how long it goes on, and its steps a unit of that
SEARCHES = {
    "evnas-search nb201": ("generations", 4),
    "nsas-search nb201 gdas": ("epochs", 2),
    "nao_v2-search": ("epochs", 4),
    "cream-search": ("epochs", 3),
    "sgnas-search-supernet": ("supernet-epochs", 2),
}


def longer(case: Case, words: list[str], flag: str, units: int) -> list[str]:
    """The case's words with another length."""
    place = words.index(f"--{flag}")
    return [*words[: place + 1], str(units), *words[place + 2 :]]


def grows(name: str, root: Path, steps: int = STEPS) -> str:
    """A search of so many steps: by how much its memory grows after the first fifth, where that is too much, or ""."""
    case, (flag, each) = cases.named(name), SEARCHES[name]
    words = longer(case, words_of(case, root), flag, -(-steps // each))
    place = root / "memory.json"
    status, said = ended(case, words, root / "long", {"memory": str(place)}, "1")
    shutil.rmtree(root / "long", ignore_errors=True)
    if status:
        return f"exit status {status}: {said[-600:]}"
    held = json.loads(place.read_text())
    early, late = max(held[: len(held) // 5]), max(held[-len(held) // 5 :])
    print(f"{name}: {len(held)} steps, {early / 2**20:.1f} then {late / 2**20:.1f} MiB", file=sys.stderr, flush=True)
    return f"{early} bytes, then {late}" if late > early * (1 + GROWTH) else ""


def resumed(name: str, root: Path, resumes: int = RESUMES) -> str:
    """Stopped and resumed so many times: each epoch has its one row. What was wrong, or ""."""
    case, (flag, each) = cases.named(name), SEARCHES[name]
    units = -(-2 * resumes // each) + 1
    words, out = longer(case, words_of(case, root), flag, units), root / "resumed"
    shutil.rmtree(out, ignore_errors=True)
    for _ in range(resumes):
        status, said = ended(case, words, out, {"only": "step", "die": 3, "signal": 15}, "0")
        if status != 143:
            return f"exit status {status}: {said[-600:]}"
    status, said = ended(case, words, out, {}, "0")
    with open(out / "history.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    sessions = json.loads((out / "timing.json").read_text())["sessions"]
    first = next(column for column in rows[0] if re.fullmatch("epoch|generation", column))
    numbers = [int(row[first]) for row in rows]
    whole = numbers == sorted(numbers) and sorted(set(numbers)) == list(range(units)) and sessions == resumes + 1
    return "" if status == 0 and whole else f"exit status {status}, {sessions} sessions, rows {numbers}"


def counted(moments: int) -> Iterator[Count]:
    """Every search once."""
    for what, words in ((grows, f"memory over {STEPS} steps"), (resumed, f"history after {RESUMES} resumes")):
        for name in [name for name in SEARCHES if any(f"{c.paper}-{c.name}" == name for c in cases.CASES)]:
            with tempfile.TemporaryDirectory(prefix="long") as folder:
                fault = what(name, Path(folder))
            if fault:
                print(f"FAULT {name}, {words}: {fault}", file=sys.stderr, flush=True)
            case = cases.named(name)
            yield Count("long runs", case.paper, f"{case.name}, {words}", 1, int(not fault))
