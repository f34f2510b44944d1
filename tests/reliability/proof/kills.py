"""Kill anywhere: a command killed again and again at random moments ends with the bytes of one that was left alone.

Of three kills one comes inside a save (between two acts on the disk, or half-way through a write), one at the beginning
or the end of a step, one whenever the process has used some random share of its time. All are SIGKILL. Runs save after
every step or hardly ever, in turns.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests import fresh
from tests.reliability.proof import cases
from tests.reliability.proof.cases import Case, environment, words_of
from tests.reliability.proof.counts import Count

OPENING = 25  # acts on the disk by which a run begins
TICKS = os.sysconf("SC_CLK_TCK")
# durations, versions, the command line; and the record of which files are whose, which tells what earlier runs wrote
OWN = {"env.json", "timing.json", "cost.csv", ".written.json", ".lock"}


class Whole(NamedTuple):
    """A run that was left alone: its folder, how many places it has of each group, its CPU seconds, its steps."""

    folder: Path
    saves: int
    steps: int
    seconds: float
    steps_done: int


def program(case: Case, words: list[str], out: Path, spec: dict) -> list[str]:
    """The words of the child."""
    return ["-m", "tests.reliability.proof.child", json.dumps(spec), case.paper, *words, "--out", str(out)]


def whole(case: Case, words: list[str], root: Path, processes: int = 1) -> Whole:
    """Run a case to its end, counting. Raises RuntimeError where it fails."""
    out, places = root / "whole", root / "places.json"
    spec = {"count": str(places), "rank": 0}
    status, said = ended(case, words, out, spec, "0", processes)
    if status:
        raise RuntimeError(f"{case.paper} {case.name} by itself: {said[-1500:]}")
    passed = Counter(json.loads(places.read_text()))
    steps = passed["begins"] + passed["ends"]
    seconds = json.loads((out / "timing.json").read_text())["cpu_seconds"]
    return Whole(out, passed.total() - steps, steps, seconds, passed["ends"])


def ended(
    case: Case, words: list[str], out: Path, spec: dict, every: str, processes: int = 1, after: float | None = None
) -> tuple[int, str]:
    """(exit status, standard error) of a run; ``after`` so many CPU seconds the run is killed from outside."""
    settings = environment(NAS_SAVE_EVERY_S=every)
    jobs = (
        fresh.pair(program(case, words, out, spec), settings) if processes > 1
        else [fresh.start(program(case, words, out, spec), settings)]
    )  # fmt: skip
    chosen = jobs[spec.get("rank", 0)]
    while all(job.poll() is None for job in jobs):
        if after is not None and used(chosen.pid) >= after:
            chosen.kill()
        time.sleep(0.02)
    said = ""
    for job in jobs:
        with contextlib.suppress(Exception):
            said += job.communicate(timeout=30)[1]
        job.kill()  # a launcher ends the others, too
        job.wait(60)
    return max((job.returncode for job in jobs), key=abs) if processes > 1 else chosen.returncode, said


def used(pid: int) -> float:
    """CPU seconds of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def moment(number: int, rng: random.Random, of: Whole, moments: int) -> tuple[dict, float | None]:
    """(what the child is told, CPU seconds after which it is killed): ``moments`` kills take about one run's time."""
    if number % 3 == 0:
        return {"only": "save", "die": rng.randint(1, OPENING + 2 * of.saves // moments)}, None
    if number % 3 == 1:
        return {"only": "step", "die": rng.randint(1, max(3, 2 * of.steps // moments))}, None
    return {}, rng.uniform(0.0, 0.3 + 2 * of.seconds / moments)


def killed(case: Case, root: Path, moments: int, seed: int = 0, processes: int = 1) -> Count:
    """Kill a case ``moments`` times; a chain of kills ends where the run comes to its end, then the next one begins."""
    rng, kind = random.Random(f"{case.paper}{case.name}{seed}"), "kill" if processes == 1 else "two processes"
    words, place = words_of(case, root), root / f"{case.paper}-{case.name}-{kind}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    of, broken = whole(case, words, place, processes), place / "broken"
    injected, survived, open_kills = 0, 0, 0
    for attempt in itertools.count():  # a kill that comes too late is none
        if injected >= moments and not broken.exists():
            break
        spec, after = moment(attempt, rng, of, moments) if injected < moments else ({}, None)
        spec["rank"] = rng.randrange(processes)
        status, said = ended(case, words, broken, spec, rng.choice(["0", "0", "3600"]), processes, after)
        if status == -signal.SIGKILL:
            injected, open_kills = injected + 1, open_kills + 1
            continue
        fault = f"exit status {status}: {said[-600:]}" if status else difference(of.folder, broken)
        if fault:
            print(f"FAULT {case.paper} {case.name} ({kind}, {open_kills} kills): {fault}", file=sys.stderr, flush=True)
            shutil.move(broken, place / f"fault-{injected}")
        else:
            survived += open_kills
            shutil.rmtree(broken)
        open_kills = 0
    return Count(kind, case.paper, case.name, injected, survived)


def difference(one: Path, other: Path) -> str:
    """The first thing in which two folders of finished runs differ; "" where they hold the same bytes."""
    files = [
        {str(p.relative_to(f)): p for p in f.rglob("*") if p.is_file() and p.name not in OWN} for f in (one, other)
    ]
    if set(files[0]) != set(files[1]):
        return f"files {sorted(set(files[0]) ^ set(files[1]))} are in one folder only"
    unequal = [name for name, path in files[0].items() if path.read_bytes() != files[1][name].read_bytes()]
    return f"{', '.join(unequal)} differ" if unequal else ""


def counted(moments: int) -> Iterator[Count]:
    """Every case, ``moments`` kills each."""
    with tempfile.TemporaryDirectory(prefix="kills") as folder:
        for case in cases.CASES:
            yield killed(case, Path(folder), moments)
