"""A disk that is full or broken: the command ends with one line, leaves no litter, and can be given again later."""

from __future__ import annotations

import errno
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.reliability.proof import cases
from tests.reliability.proof.cases import Case, words_of
from tests.reliability.proof.counts import Count
from tests.reliability.proof.kills import Whole, difference, ended, whole

FAULTS = (("write", errno.ENOSPC), ("fsync", errno.EIO), ("rename", errno.EIO), ("open", errno.ENOSPC))


def starved(case: Case, root: Path, moments: int, seed: int = 0) -> Count:
    """Let the disk fail ``moments`` times, in another act each time, from some act on."""
    rng, words = random.Random(f"{case.paper}{case.name}{seed}"), words_of(case, root)
    place = root / f"{case.paper}-{case.name}-disk"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    of, survived = whole(case, words, place), 0
    for number in range(moments):
        act, error = FAULTS[(number + seed) % len(FAULTS)]
        first = rng.randint(1, max(1, of.saves // 10))  # a save has about ten acts
        fault = once(case, words, place / f"{number}", of, [act, first, error])
        if fault:
            print(f"FAULT {case.paper} {case.name} (disk, {act}): {fault}", file=sys.stderr, flush=True)
        survived += not fault
    return Count("disk", case.paper, case.name, moments, survived)


def once(case: Case, words: list[str], out: Path, of: Whole, fail: list) -> str:
    """Let the disk fail, then go on: what was wrong, or ""."""
    status, said = ended(case, words, out, {"fail": fail}, "0")
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    if status and (status != 2 or "Traceback" in said or len(lines) != 1):
        return f"exit status {status}: {said[-900:]}"
    if status:
        litter = [path.name for path in out.rglob("*") if path.name.endswith(".tmp")]
        litter += [p.name for p in out.rglob("*.sha256") if not p.with_suffix("").exists()]
        if litter:
            return f"it leaves {litter}"
        status, said = ended(case, words, out, {}, "3600")
        if status:
            return f"exit status {status} when it goes on: {said[-900:]}"
    return difference(of.folder, out)


def counted(moments: int) -> Iterator[Count]:
    """Every case, a tenth of ``moments`` faults each, two at least."""
    with tempfile.TemporaryDirectory(prefix="disks") as folder:
        for number, case in enumerate(cases.CASES):
            yield starved(case, Path(folder), max(2, moments // 10), seed=number)
