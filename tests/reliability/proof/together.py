"""Two commands at the same instant: into one folder, for one file; afterwards what one alone would have left."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests import fresh
from tests.reliability.proof import cases
from tests.reliability.proof.counts import Count
from tests.reliability.proof.kills import difference, program

REFUSED = "is in use by process"
FETCH = """
import sys
from pathlib import Path
from common.errors import UserError
from reproductions.data.download import download
try:
    download([sys.argv[1]], Path(sys.argv[2]))
except UserError as error:
    sys.exit(f"error: {error}")
"""


def at_once(words: list[str], environment: dict[str, str]) -> list[tuple[int, str]]:
    """(exit status, standard error) of two processes with the same words, started together."""
    jobs = [fresh.start(words, environment) for _ in range(2)]
    said = [job.communicate(timeout=600)[1] for job in jobs]
    return [(job.returncode, text) for job, text in zip(jobs, said)]


def one_folder(root: Path, name: str = "evnas-train nb201") -> str:
    """Two runs into one folder: one runs, the other is refused or finds the result. What was wrong, or ""."""
    case, out, alone = cases.named(name), root / "both", root / "alone"
    if not alone.exists():
        cases.done(case, root, alone)
    shutil.rmtree(out, ignore_errors=True)
    ended = at_once(program(case, cases.words_of(case, root), out, {}), cases.environment(NAS_SAVE_EVERY_S="0"))
    statuses = sorted(status for status, _ in ended)
    if statuses not in ([0, 0], [0, 2]) or any("Traceback" in said for _, said in ended):
        return f"{statuses}: {ended}"
    if statuses == [0, 2] and not any(REFUSED in said for _, said in ended):
        return f"refused for another reason: {ended}"
    return difference(alone, out)


def one_file(root: Path) -> str:
    """Two fetches of one file: it is whole, nothing lies beside it. What was wrong, or ""."""
    source, target = root / "source", root / "fetched" / "file"
    source.write_bytes(os.urandom(3_000_000))
    shutil.rmtree(target.parent, ignore_errors=True)
    ended = at_once(["-c", FETCH, source.as_uri(), str(target)], cases.environment())
    if 0 not in [status for status, _ in ended] or any("Traceback" in said for _, said in ended):
        return f"{ended}"
    left = [path.name for path in target.parent.iterdir()]
    return "" if left == ["file"] and target.read_bytes() == source.read_bytes() else f"left {left}"


def counted(moments: int) -> Iterator[Count]:
    """``moments`` times each."""
    with tempfile.TemporaryDirectory(prefix="together") as folder:
        for name, what in (("two runs into one folder", one_folder), ("two fetches of one file", one_file)):
            faults = [what(Path(folder)) for _ in range(moments)]
            for fault in filter(None, faults):
                print(f"FAULT {name}: {fault}", file=sys.stderr, flush=True)
            yield Count("concurrency", "all papers", name, moments, faults.count(""))
