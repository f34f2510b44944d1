"""``python -m tests.reliability.proof [PART …] [--moments N]``: inject faults, write results/reliability.json."""

from __future__ import annotations

import argparse
import importlib
import sys

from tests.reliability.proof import cases
from tests.reliability.proof.counts import record

PARTS = {
    name: f"tests.reliability.proof.{name}" for name in ("kills", "stops", "disks", "pairs", "together", "long_runs")
}
PARTS |= {name: f"tests.reliability.hostile.{name}" for name in ("corruption", "files", "fuzz")}


def main() -> int:
    """Run the parts; 1 where a fault was not survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.proof", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default all")
    parser.add_argument("--case", default="", help="only cases whose name (paper-case) begins so")
    parser.add_argument("--moments", type=int, default=20, help="faults of a kind for every command")
    given, lost = parser.parse_args(), 0
    cases.CASES = tuple(c for c in cases.CASES if f"{c.paper}-{c.name}".startswith(given.case))
    if unknown := [name for name in given.parts if name not in PARTS]:
        parser.error(f"unknown part {unknown[0]}; there are {', '.join(PARTS)}")
    for name in given.parts or PARTS:
        for count in importlib.import_module(PARTS[name]).counted(given.moments):
            record([count])
            lost += count.injected - count.survived
            where = f"{count.kind}: {count.paper} {count.case}"
            print(f"{where}: {count.survived} of {count.injected} survived", file=sys.stderr, flush=True)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
