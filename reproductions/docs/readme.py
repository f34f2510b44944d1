"""``python -m reproductions readme``: the generated tables of README.md and papers/*/README.md, and the generated pages
(CLAIMS.md of each paper; settings, histories and speed of docs/).

Between ``<!-- claims:start -->`` and ``<!-- claims:end -->`` stand the verdicts by kind and the numbers that matter, of
one paper or, in the root README, of all. Tables are generated, never typed; ``--check`` fails when one is stale. What
stands in them:
verdicts of computed claims, of results that are in git (proxy and paper profiles), and of values computed from data
files. The last are recorded in ``results/data_claims.json`` whenever the tables are written with the files at hand, so
that a machine without them checks the same tables; a machine that has them computes them anew and compares.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.papers import PAPERS
from common.run.files import write_json
from reproductions import kept
from reproductions.arguments import OneLineParser
from reproductions.check import summary
from reproductions.claims import ROOT, load_all
from reproductions.compare.groups import of_pipeline
from reproductions.docs import mutants, pages, reliability, words
from reproductions.results import load
from reproductions.speed import tables as speed
from reproductions.verdicts import Verdict, judged

RECORD = ROOT / "results" / "data_claims.json"
START, END = "<!-- claims:start -->", "<!-- claims:end -->"


def main(argv: list[str]) -> int:
    parser = OneLineParser(prog="python -m reproductions readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a table is stale")
    args = parser.parse_args(argv)
    verdicts = {paper: decided(paper) for paper in PAPERS}
    of_data = [v for found in verdicts.values() for v in found if v.claim.hardest == "data" and v.claim.compute]
    absent = [v.claim for v in of_data if v.measured is None]
    record = recorded()
    fresh_record = {v.claim.id: record.get(v.claim.id) if v.measured is None else v.measured for v in of_data}
    verdicts = {paper: [from_record(v, fresh_record) for v in found] for paper, found in verdicts.items()}
    titles = {paper: pages.title(paper) for paper in PAPERS}
    tables = {ROOT / "README.md": pages.summary(verdicts, titles)}
    tables |= {ROOT / "papers" / p / "README.md": pages.of_paper(v) for p, v in verdicts.items()}
    stale = [str(RECORD.relative_to(ROOT))] if fresh_record != record else []
    if stale and not args.check:
        write_json(RECORD, fresh_record)
    for path, table in tables.items():
        if not path.exists():
            print(f"{path.relative_to(ROOT)}: absent", file=sys.stderr)
            continue
        text = path.read_text(encoding="utf-8")
        if START not in text or END not in text:
            raise UserError(f"{path.relative_to(ROOT)} lacks the markers {START} and {END}")
        fresh = filled(text, table)
        if fresh != text:
            stale.append(str(path.relative_to(ROOT)))
            if not args.check:
                path.write_text(fresh, encoding="utf-8")
    whole = {Path("papers") / p / "CLAIMS.md": pages.claims_page(titles[p], v) for p, v in verdicts.items()}
    whole |= proxy_metrics() | speed.pages() | reliability.pages() | mutants.pages()
    for page, text in (words.pages() | whole).items():  # generated as a whole
        if not (ROOT / page).exists() or (ROOT / page).read_text(encoding="utf-8") != text:
            stale.append(str(page))
            if not args.check:
                (ROOT / page).parent.mkdir(parents=True, exist_ok=True)
                (ROOT / page).write_text(text, encoding="utf-8")
    if args.check and stale:
        raise UserError(f"stale tables or pages: {', '.join(stale)}; run: python -m reproductions readme")
    if absent:
        needs = ", ".join(sorted({need.partition(":")[2] for claim in absent for need in claim.needs}))
        print(f"{len(absent)} values need data that are not here ({needs}): taken from {RECORD.relative_to(ROOT)}")
    print(f"{'rewrote ' + ', '.join(stale) if stale else 'all tables are current'}")
    return 0


def decided(paper: str) -> list[Verdict]:
    """Verdicts that rest on the code and on committed results alone."""
    known = committed()
    results = [r for r in load(paper=paper) if known is None or str(r.path.relative_to(ROOT)) in known]
    return kept.verdicts(load_all(paper), [r for r in results if r.profile != "smoke"])


def proxy_metrics() -> dict[Path, str]:
    """The rows that ``dvc metrics show`` has of the committed proxy runs, by file."""
    found = {}
    for paper in PAPERS:
        row = summary([r for r in load(ROOT / "results", "proxy", paper) if of_pipeline(r)])
        if row:
            path = Path("results") / "proxy" / "metrics" / f"{paper}.json"
            found[path] = json.dumps(row, indent=1, sort_keys=True) + "\n"
    return found


def from_record(v: Verdict, record: dict[str, Any]) -> Verdict:
    """``v``, or the verdict on the recorded value where a data file that it needs is absent."""
    value = record.get(v.claim.id)
    return v if v.measured is not None or value is None else judged(v.claim, value)


def recorded() -> dict[str, Any]:
    """Values of ``results/data_claims.json`` by claim; nothing where there is none."""
    if not RECORD.exists():
        return {}
    try:
        return dict(json.loads(RECORD.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UserError(
            f"{RECORD.relative_to(ROOT)}: {error}; restore it: git checkout {RECORD.relative_to(ROOT)}"
        ) from None


def committed() -> set[str] | None:
    """Paths below results/ that git tracks; None outside a git checkout (then all results count)."""
    found = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, check=False)
    return set(found.stdout.splitlines()) if found.returncode == 0 else None


def filled(text: str, table: str) -> str:
    """``text`` with the part between the markers replaced."""
    before, rest = text.split(START, 1)
    _, after = rest.split(END, 1)
    return f"{before}{START}\n{table}\n{END}{after}"
