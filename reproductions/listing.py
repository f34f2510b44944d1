"""``python -m reproductions claims``: every published number with its verdict, as a table or as JSON."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from common.errors import UserError
from reproductions.arguments import OneLineParser
from reproductions.claims import PAPERS, load_all
from reproductions.results import RESULTS, load
from reproductions.verdicts import VERDICTS, Verdict, decide_all

KINDS = ("computed", "data", "checkpoint", "training", "search", "quoted", "unpublished")


def main(argv: list[str]) -> int:
    parser = OneLineParser(prog="python -m reproductions claims", description=__doc__)
    parser.add_argument("--paper", choices=PAPERS)
    parser.add_argument("--kind", choices=KINDS, help="the hardest thing a claim needs")
    parser.add_argument("--verdict", choices=VERDICTS)
    parser.add_argument("--json", action="store_true", help="one JSON list, all fields")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results (default: results)")
    args = parser.parse_args(argv)
    claims = [c for c in load_all(args.paper) if args.kind in (None, c.kind)]
    if not args.results.is_dir():
        raise UserError(f"{args.results} is no folder; --results takes a folder of results")
    verdicts = [v for v in decide_all(claims, load(args.results)) if args.verdict in (None, v.verdict)]
    if args.json:
        print(json.dumps([v.as_dict() for v in verdicts], indent=1, sort_keys=True, ensure_ascii=False))
        return 0
    width = max((len(v.claim.id) for v in verdicts), default=10)
    for v in verdicts:
        line = f"{v.verdict:<15} {v.claim.id:<{width}}  {published(v)}"
        if v.measured is not None:
            line += f"  measured {measured(v)}"
        print(line + (f"  ({v.reason})" if v.reason else ""))
    counts = Counter(v.verdict for v in verdicts)
    print(f"{len(verdicts)} claims: " + ", ".join(f"{counts[word]} {word}" for word in VERDICTS))
    return 0


def number(value: Any, unit: str = "") -> str:
    """A value as a reader wants it: thousands separated for counts, otherwise up to 6 significant digits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        return text if len(text) <= 40 else text[:37] + "…"
    if float(value).is_integer() and (unit == "count" or abs(value) >= 10000):
        return f"{int(value):,}"
    return f"{value:.6g}"


SUFFIX = {
    "percent": " %",
    "millions": " M",
    "seconds": " s",
    "hours": " h",
    "gpu_hours": " GPU h",
    "gpu_days": " GPU days",
}


def published(v: Verdict) -> str:
    """Published value with its spread and unit."""
    c = v.claim
    return number(c.value, c.unit) + (f" ± {c.spread:g}" if c.spread is not None else "") + SUFFIX.get(c.unit, "")


def measured(v: Verdict) -> str:
    """Measured value or mean over seeds, with spread and number of seeds; – when there is none."""
    if v.measured is None:
        return "–"
    text = number(v.measured, v.claim.unit)
    if v.n > 1:
        text += f" ± {v.sd:.2g} (n = {v.n})"
    return text + SUFFIX.get(v.claim.unit, "")
