"""docs/mutants.md from ``results/mutants.json``: small wrong changes to the code, and whether the tests noticed them.

``make mutants`` tries them and writes the record; this page only counts.
"""

from __future__ import annotations

import json
from pathlib import Path

from reproductions.claims import ROOT

PAGE, RECORD = Path("docs/mutants.md"), ROOT / "results" / "mutants.json"
HEAD = """# What the tests notice

Small wrong changes to the method's code, one at a time, in a scratch copy of the tree: gradients that are not cut,
halves that are swapped, a rate an epoch late. The lists `tests/mutants/*.yaml` say of each what it is and which tests
should fail; `make mutants` tries them and writes [results/mutants.json](../results/mutants.json), from which
`python -m reproductions readme` generates this page. A change of the lists that has not been tried is not counted.

| code of | changes tried | noticed | survived |
| --- | ---: | ---: | --- |
"""


def pages() -> dict[Path, str]:
    """The page, where there is a record."""
    if not RECORD.exists():
        return {}
    areas = json.loads(RECORD.read_text(encoding="utf-8"))["areas"]
    rows = [
        f"| {area} | {found['changes']} | {found['noticed']} | "
        f"{', '.join(name.partition('/')[2] for name in found['survivors']) or '–'} |"
        for area, found in areas.items()
        if found["changes"]
    ]
    return {PAGE: HEAD + "\n".join(rows) + "\n"}
