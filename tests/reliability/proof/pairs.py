"""Kill anywhere, one of two processes: the launcher ends the other one, and the job goes on as if nothing had been."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.reliability.proof import cases
from tests.reliability.proof.counts import Count
from tests.reliability.proof.kills import killed


def counted(moments: int) -> Iterator[Count]:
    """Every case that shares its batches, a tenth of ``moments`` kills each, one at least."""
    with tempfile.TemporaryDirectory(prefix="pairs") as folder:
        for case in cases.CASES:
            if case.pair:
                yield killed(case, Path(folder), max(1, moments // 10), processes=2)
