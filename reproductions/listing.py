"""``python -m reproductions claims [ID …]``: every published number with its verdict, as a table or as JSON.

Below the list stands what came back: per paper one line for each kind of number, and every accuracy, error and
perplexity that matters. A claim that needs nothing but the code is computed there and then, so ``claims ID`` prints its
number; what rests on unchanged code, data and results is kept between calls (``kept.py``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.papers import PAPERS
from common.words import suggestion
from reproductions.arguments import OneLineParser
from reproductions.claims import Claim, load_all
from reproductions.kept import verdicts as decided
from reproductions.kinds import CONTEXT, KINDS, MEANING, by_kind, headline
from reproductions.results import RESULTS, load
from reproductions.verdicts import VERDICTS, Verdict

NEEDS = ("computed", "data", "checkpoint", "training", "search", "quoted", "unpublished")


def main(argv: list[str]) -> int:
    kinds = "; ".join(f"{kind}: {about}" for kind, about in MEANING.items())
    parser = OneLineParser(prog="python -m reproductions claims", description=__doc__)
    parser.add_argument("ids", nargs="*", metavar="ID", help="a claim, or the beginning of several (evnas.steps)")
    parser.add_argument("--paper", choices=PAPERS)
    parser.add_argument("--kind", choices=(*KINDS, CONTEXT), type=_kind, metavar="KIND", help=f"what it is; {kinds}")
    parser.add_argument("--needs", choices=NEEDS, help="the hardest thing a claim needs")
    parser.add_argument("--verdict", choices=VERDICTS)
    parser.add_argument("--json", action="store_true", help="one JSON list, all fields")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results (default: results)")
    args = parser.parse_args(argv)
    asked = chosen(args.ids, args.paper)
    if not args.results.is_dir() and args.results != RESULTS:
        raise UserError(f"{args.results} is no folder; --results takes a folder of results")
    claims = [c for c in asked if args.kind in (None, c.kind) and args.needs in (None, c.hardest)]
    verdicts = [v for v in decided(claims, load(args.results)) if args.verdict in (None, v.verdict)]
    if args.json:
        print(json.dumps([v.as_dict() for v in verdicts], indent=1, sort_keys=True, ensure_ascii=False))
        return 0
    shown = [v for v in verdicts if v.claim.kind != CONTEXT]
    context = [v for v in verdicts if v.claim.kind == CONTEXT]
    width = max((len(v.claim.id) for v in shown), default=0)
    for v in shown:
        print(line(v, width, exact=bool(args.ids)))
    if context and (args.ids or args.kind == CONTEXT or args.needs):
        print("Context: quoted by the papers for comparison, not measured here, no verdict")
        for v in context:
            print(f"  {v.claim.id}  {published(v)}  ({v.claim.source})")
    if not args.ids:
        tables = at_a_glance(verdicts)
        print("\n".join(["", *tables, ""]) if tables else "", end="\n" if tables else "")
    print(counted(verdicts))
    print(absent_data(verdicts), end="")
    return 0


def absent_data(verdicts: list[Verdict]) -> str:
    """Why these counts differ from those of the README, or of a machine with the data; empty where they do not."""
    absent = [v.claim for v in verdicts if v.claim.hardest == "data" and v.claim.compute and v.measured is None]
    names = sorted({need.partition(":")[2] for claim in absent for need in claim.needs if need.startswith("data:")})
    if not absent:
        return ""
    return (
        f"{len(absent)} of the claims not run need only data that are not here ({', '.join(names)}). The README counts "
        "them: their values were recorded where the data were (results/data_claims.json). To decide them here: "
        f"python -m reproductions data fetch {' '.join(names)}\n"
    )


def _kind(text: str) -> str:
    return text.replace("-", " ").replace("_", " ").lower()


def line(v: Verdict, width: int, exact: bool) -> str:
    """A claim in one line; ``exact``: all digits, and where it comes from."""
    digits, width_of = (12, 10**6) if exact else (6, 40)  # who asks for one number gets all of it
    origin = "published" if v.claim.published else "authors' code"
    text = f"{v.verdict:<15} {v.claim.id:<{width}}  {origin} {published(v, digits=digits, width=width_of)}"
    if v.measured is not None:
        text += f"  measured {measured(v, digits=digits, width=width_of)}"
    text += f"  ({v.reason})" if v.reason else ""
    if exact:
        c = v.claim
        how = f"{c.compute} (this suite's code, counted now)" if c.compute else c.command
        text += f"\n  source: {c.source}; margin {c.margin:g}: {c.margin_reason}"
        text += f"\n  kind: {c.kind}\n  how: {how}" + (f"\n  note: {c.note}" if c.note else "")
    return text


def at_a_glance(verdicts: list[Verdict]) -> list[str]:
    """The two tables of ``kinds.py`` as lines of text; none where there is nothing to count."""
    rows = [
        [
            *(row.paper, row.kind, str(row.published)),
            *(str(n or "–") for n in row.counts.values()),
            f"{row.others_met} of {row.others} met" if row.others else "–",
        ]
        for row in by_kind(verdicts)
    ]
    lines = _columns([["paper", "kind", "published", *VERDICTS, "of the authors' code"], *rows]) if rows else []
    found = headline(verdicts)
    if found:
        head = ["paper", "accuracy, error or perplexity", "published", "here", "at what scale", "seeds", "verdict"]
        body = [[h.paper, h.label, h.published, h.here, h.scale, h.seeds, h.verdict.verdict, h.reduced] for h in found]
        lines += ["", *_columns([[*head, "reduced runs (no verdict)"], *body])]
    return lines


def _columns(rows: Iterable[list[str]]) -> list[str]:
    table = list(rows)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]


def counted(verdicts: list[Verdict], form: str = "{n} {word}") -> str:
    """How many have which verdict: published numbers, then values that only the authors' code gave."""
    context = sum(v.claim.kind == CONTEXT for v in verdicts)
    parts = []
    for name, kind in (("published numbers", True), ("values of the authors' code, published nowhere", False)):
        mine = [v for v in verdicts if v.claim.published is kind and v.claim.kind != CONTEXT]
        counts = Counter(v.verdict for v in mine)
        listed = ", ".join(form.format(n=counts[word], word=word) for word in VERDICTS if kind or counts[word])
        if mine or (kind and (context < len(verdicts) or not verdicts)):
            parts.append(f"{len(mine)} {name}: {listed}")
    parts += [f"{context} numbers quoted as context, without verdict"] * bool(context)
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


def measured(v: Verdict, *, seeds: bool = True, digits: int = 6, width: int = 40) -> str:
    """Measured value or mean over seeds, with spread and (``seeds``) their number; – when there is none."""
    if v.measured is None:
        return "–"
    text = number(v.measured, v.claim.unit, digits, width)
    if v.n > 1:
        text += f" ± {v.sd:.2g}" + (f" (n = {v.n})" if seeds else "")
    return text + SUFFIX.get(v.claim.unit, "")
