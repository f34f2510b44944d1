"""``python -m reproductions claims [ID …]``: every published number with its verdict, as a table or as JSON.

A claim that needs nothing but the code is computed there and then, so ``claims ID`` prints its number.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.papers import PAPERS
from common.words import suggestion
from reproductions.arguments import OneLineParser
from reproductions.claims import Claim, load_all
from reproductions.results import RESULTS, load
from reproductions.verdicts import VERDICTS, Verdict, decide_all

KINDS = ("computed", "data", "checkpoint", "training", "search", "quoted", "unpublished")


def main(argv: list[str]) -> int:
    parser = OneLineParser(prog="python -m reproductions claims", description=__doc__)
    parser.add_argument("ids", nargs="*", metavar="ID", help="a claim, or the beginning of several (evnas.steps)")
    parser.add_argument("--paper", choices=PAPERS)
    parser.add_argument("--kind", choices=KINDS, help="the hardest thing a claim needs")
    parser.add_argument("--verdict", choices=VERDICTS)
    parser.add_argument("--json", action="store_true", help="one JSON list, all fields")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results (default: results)")
    args = parser.parse_args(argv)
    claims = [c for c in chosen(args.ids, args.paper) if args.kind in (None, c.kind)]
    if not args.results.is_dir() and args.results != RESULTS:
        raise UserError(f"{args.results} is no folder; --results takes a folder of results")
    verdicts = [v for v in decide_all(claims, load(args.results)) if args.verdict in (None, v.verdict)]
    if args.json:
        print(json.dumps([v.as_dict() for v in verdicts], indent=1, sort_keys=True, ensure_ascii=False))
        return 0
    width = max((len(v.claim.id) for v in verdicts), default=10)
    exact = {"digits": 12, "width": 10**6} if args.ids else {}  # who asks for one number gets all of it
    for v in verdicts:
        origin = "published" if v.claim.published else "authors' code"
        line = f"{v.verdict:<15} {v.claim.id:<{width}}  {origin} {published(v, **exact)}"
        if v.measured is not None:
            line += f"  measured {measured(v, **exact)}"
        print(line + (f"  ({v.reason})" if v.reason else ""))
        if args.ids:
            print(f"  source: {v.claim.source}; margin {v.claim.margin:g}: {v.claim.margin_reason}")
            how = f"{v.claim.compute} (this suite's code, counted now)" if v.claim.compute else v.claim.command
            print(f"  how: {how}" + (f"\n  note: {v.claim.note}" if v.claim.note else ""))
    print(counted(verdicts))
    return 0


def counted(verdicts: list[Verdict], form: str = "{n} {word}") -> str:
    """How many have which verdict: published numbers, then values that only the authors' code gave."""
    parts = []
    for name, kind in (("published numbers", True), ("values of the authors' code, published nowhere", False)):
        mine = [v for v in verdicts if v.claim.published is kind]
        counts = Counter(v.verdict for v in mine)
        listed = ", ".join(form.format(n=counts[word], word=word) for word in VERDICTS if kind or counts[word])
        if mine or kind:
            parts.append(f"{len(mine)} {name}: {listed}")
    return "; ".join(parts)


def chosen(ids: list[str], paper: str | None = None) -> list[Claim]:
    """The claims with these ids, or ids that begin with them at a full stop; all where none is given.

    Raises UserError for an id that no claim has.
    """
    papers = {wanted.partition(".")[0] for wanted in ids}
    if paper is None and len(papers) == 1 and papers <= set(PAPERS):
        paper = papers.pop()  # the other files need not be read
    claims: list[Claim] = load_all(paper)
    found: list[Claim] = []
    for wanted in ids:
        mine = [c for c in claims if c.id == wanted or c.id.startswith(wanted.rstrip(".") + ".")]
        if not mine:
            raise UserError(f"no claim {wanted!r}{suggestion(wanted, (c.id for c in claims))}"[:400])
        found += [c for c in mine if c not in found]
    return found if ids else claims


def number(value: Any, unit: str = "", digits: int = 6, width: int = 40) -> str:
    """A value as a reader wants it: thousands separated for counts, otherwise up to ``digits`` significant digits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        return text if len(text) <= width else text[: width - 3] + "…"
    if float(value).is_integer() and (unit == "count" or abs(value) >= 10000):
        return f"{int(value):,}"
    return f"{value:.{digits}g}"


SUFFIX = {
    "percent": " %",
    "millions": " M",
    "seconds": " s",
    "hours": " h",
    "gpu_hours": " GPU h",
    "gpu_days": " GPU days",
}


def published(v: Verdict, **form: int) -> str:
    """Published value (or the authors' code's) with its spread and unit."""
    c = v.claim
    return (
        number(c.value, c.unit, **form) + (f" ± {c.spread:g}" if c.spread is not None else "") + SUFFIX.get(c.unit, "")
    )


def measured(v: Verdict, **form: int) -> str:
    """Measured value or mean over seeds, with spread and number of seeds; – when there is none."""
    if v.measured is None:
        return "–"
    text = number(v.measured, v.claim.unit, **form)
    if v.n > 1:
        text += f" ± {v.sd:.2g} (n = {v.n})"
    return text + SUFFIX.get(v.claim.unit, "")
