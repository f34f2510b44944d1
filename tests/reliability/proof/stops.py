"""SIGTERM, Ctrl-C save first: a stopped command goes on behind the step that it was in; no step is repeated."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.reliability.proof import cases
from tests.reliability.proof.cases import Case, words_of
from tests.reliability.proof.counts import Count
from tests.reliability.proof.kills import Whole, difference, ended, whole

STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}


def stopped(case: Case, root: Path, moments: int, seed: int = 0) -> Count | None:
    """Stop a case ``moments`` times, by both signals in turns; None where it has no steps."""
    rng, words = random.Random(f"{case.paper}{case.name}{seed}"), words_of(case, root)
    place = root / f"{case.paper}-{case.name}-stop"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    of, survived = whole(case, words, place), 0
    if not of.steps:
        return None
    for number in range(moments):
        fault = once(case, words, place / f"{number}", of, rng.randint(1, of.steps), list(STATUS)[number % 2])
        if fault:
            print(f"FAULT {case.paper} {case.name} (stop {number}): {fault}", file=sys.stderr, flush=True)
        survived += not fault
    return Count("stop", case.paper, case.name, moments, survived)


def once(case: Case, words: list[str], out: Path, of: Whole, step: int, number: signal.Signals) -> str:
    """Stop a run at its ``step``-th place and go on: what was wrong, or ""."""
    counts = [out.with_suffix(f".{session}.json") for session in (0, 1)]
    spec = {"only": "step", "die": step, "signal": int(number), "count": str(counts[0])}
    status, said = ended(case, words, out, spec, "3600")
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    if status != STATUS[number] or "Traceback" in said or len(lines) != 1:
        return f"exit status {status}: {said[-600:]}"
    status, said = ended(case, words, out, {"count": str(counts[1])}, "3600")
    if status:
        return f"exit status {status} when it goes on: {said[-600:]}"
    done = sum(json.loads(path.read_text()).count("ends") for path in counts)
    if done != of.steps_done:
        return f"{done} steps were done, {of.steps_done} by a run that was left alone"
    return difference(of.folder, out)


def counted(moments: int) -> Iterator[Count]:
    """Every case, a tenth of ``moments`` stops each, two at least."""
    with tempfile.TemporaryDirectory(prefix="stops") as folder:
        for case in cases.CASES:
            count = stopped(case, Path(folder), max(2, moments // 10))
            if count is not None:
                yield count
