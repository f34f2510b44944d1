"""Settings of what both papers do with cells of NAS-Bench-201. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from common.settings import Settings, setting


@dataclass(frozen=True)
class Lookup(Settings):
    """Accuracies of cells in the benchmark's tables."""

    cells: tyro.conf.Positional[tuple[str, ...]] = setting(
        (),
        "architecture strings (in quotes), six digits, indices, architecture files, folders of runs; several at once",
    )
