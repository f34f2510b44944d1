"""``python -m reproductions report``: results/report.html, one self-contained page for screen, phone and print.

Built after DVC from what is on disk: claims with verdicts, results by profile, curves, drawn architectures, rank
scatter, seed spread, hardware and versions. Nothing is loaded from elsewhere.
"""

from __future__ import annotations

import html
import json
from collections import Counter
from pathlib import Path
from typing import Any

from common.papers import PAPERS
from common.run.files import environment, write_text
from reproductions.arguments import OneLineParser
from reproductions.claims import load_all
from reproductions.compare.groups import groups
from reproductions.compare.statistics import spread
from reproductions.listing import counted, measured, number
from reproductions.readme import origin, title
from reproductions.report import figures
from reproductions.results import RESULTS, Result, by_seed, load
from reproductions.verdicts import VERDICTS, Verdict, decide_all

PROFILES = {"smoke": "embedded digits and text: shows that everything runs and learns, says nothing about the papers",
            "proxy": "real data at reduced budget: does not count as reproduced",
            "paper": "the papers' data and budgets"}  # fmt: skip
CLASS = {"reproduced": "yes", "not reproduced": "no", "inconclusive": "maybe", "not run": "none", "": "none"}
HEADLINE = ("top1_error_percent", "top5_error_percent", "test_perplexity", "parameters", "macs")
STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
SCRIPT = """
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => d.open = true));
"""


def main(argv: list[str]) -> int:
    parser = OneLineParser(prog="python -m reproductions report", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results (default: results)")
    parser.add_argument("--out", type=Path, help="default: report.html in the folder of results")
    args = parser.parse_args(argv)
    results = load(args.results)
    verdicts = decide_all(load_all(), results)
    out = args.out or args.results / "report.html"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page(results, verdicts))
    print(f"{out}: {len(results)} results; {counted(verdicts)}")
    return 0


def page(results: list[Result], verdicts: list[Verdict]) -> str:
    """The whole page."""
    body = [
        "<h1>Five one-shot architecture searches, replicated</h1>",
        "<p class=muted>A claim is <b>reproduced</b> only by the code itself (counts, schedules) or by runs at the "
        "papers' own data and budget. Runs of the smoke and proxy profiles are shown, and never count.</p>",
        "<nav>" + "".join(f'<a href="#{p}">{title(p)}</a>' for p in PAPERS) + '<a href="#spread">Seeds</a>'
        '<a href="#machine">Machine</a></nav>',
        "<h2 id=claims>Verdicts</h2>",
        verdict_table(verdicts),
    ]
    for paper in PAPERS:
        body.append(
            section(paper, [r for r in results if r.paper == paper], [v for v in verdicts if v.claim.paper == paper])
        )
    body += ["<h2 id=spread>Seed spread</h2>", seed_section(results), "<h2 id=machine>Hardware and versions</h2>"]
    body.append(machine(results))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>NAS replications: report</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + f"\n<script>{SCRIPT}</script>\n</body></html>\n"
    )


def table(head: list[tuple[str, str]], rows: list[list[str]]) -> str:
    """A table; ``head`` is (title, css class) and cells are HTML."""
    top = "".join(f'<th class="{css}">{html.escape(title)}</th>' for title, css in head)
    lines = [
        "".join(f'<td class="{css}">{cell}</td>' for cell, (_, css) in zip(row, head, strict=True)) for row in rows
    ]
    return (
        f"<div class=scroll><table><thead><tr>{top}</tr></thead><tbody>"
        + "".join(f"<tr>{line}</tr>" for line in lines)
        + "</tbody></table></div>"
    )


def tag(verdict: str) -> str:
    return f'<span class="tag {CLASS[verdict]}">{verdict or "context"}</span>'


def verdict_table(verdicts: list[Verdict]) -> str:
    """Papers by verdicts."""
    rows = []
    for paper in PAPERS:
        mine = [v for v in verdicts if v.claim.paper == paper]
        counts = Counter(v.verdict for v in mine if v.claim.published)
        others = [v for v in mine if not v.claim.published]
        met = f"{sum(v.verdict == 'reproduced' for v in others)} of {len(others)}" if others else "–"
        rows.append([f'<a href="#{paper}">{title(paper)}</a>', *(str(counts[word] or "–") for word in VERDICTS), met])
    head = [("published numbers", ""), *((word, "n") for word in VERDICTS), ("values of the authors' code met", "n")]
    return table(head, rows)


def section(paper: str, results: list[Result], verdicts: list[Verdict]) -> str:
    """One paper: results and figures by profile, then its claims."""
    parts = [f'<h2 id="{paper}">{title(paper)}</h2>']
    for profile, about in PROFILES.items():
        mine = [r for r in results if r.profile == profile]
        if not mine:
            continue
        parts.append(f"<h3>Profile {profile}</h3><p class=muted>{about}</p>")
        parts.append(result_table(mine))
        shown = []
        for name, group in groups(mine).items():
            short = name.split("/", 1)[1]
            for picture in filter(None, [*figures.curves(group, name), figures.rank_scatter(group[0])]):
                shown.append(f"<figure>{picture}<figcaption>{html.escape(short)}</figcaption></figure>")
            for picture in figures.drawing(group[0]):
                caption = f"{short}, seed {group[0].seed}: the architecture found"
                shown.append(f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>")
        parts.append("<div class=figures>" + "".join(shown) + "</div>")
    if not results:
        parts.append("<p class=missing>No results yet: <code>make reproduce</code> runs the smoke profile.</p>")
    parts.append(f"<details><summary>{counted(verdicts)}</summary>{claims_table(verdicts)}</details>")
    return "\n".join(parts)


def result_table(results: list[Result]) -> str:
    """Stages by headline metrics, mean ± sd over seeds."""
    keys = [k for k in HEADLINE if any(isinstance(r.metrics.get(k), (int, float)) for r in results)]
    rows = []
    for name, group in groups(results).items():
        cells = []
        for key in keys:
            values = list(by_seed(group, key).values())
            s = spread(values) if values else None
            if s is None:
                cells.append("–")
            elif key in ("parameters", "macs"):  # whole numbers, and so is their spread
                cells.append(number(round(s.mean), "count") + (f" ± {s.sd:,.0f}" if s.sd > 0 else ""))
            else:
                cells.append(number(s.mean, "") + (f" ± {s.sd:.2g}" if s.sd > 0 else ""))
        marks = " (unpinned data)" if any(r.unpinned for r in group) else ""
        seeds = ", ".join(str(seed) for seed in sorted({r.seed for r in group}))
        rows.append([html.escape(name.split("/", 2)[2]) + marks, seeds, *cells])
    return table([("stage", ""), ("seeds", ""), *((k.replace("_", " "), "n") for k in keys)], rows)


def claims_table(verdicts: list[Verdict]) -> str:
    """Every claim with value, margin, measurement and verdict."""
    rows = []
    for v in verdicts:
        c = v.claim
        command = f"<br><code>{html.escape(c.command)}</code>" if c.command and c.hardest != "computed" else ""
        rows.append([
            html.escape(c.id.split(".", 1)[1]), html.escape(c.quantity.replace("_", " ")), html.escape(origin(v)),
            html.escape(measured(v)), tag(v.verdict), html.escape(v.reason or c.note) + command,
        ])  # fmt: skip
    head = [
        ("claim", "id"),
        ("quantity", ""),
        ("published († only by the authors' code)", "n"),
        ("measured", "n"),
        ("verdict", ""),
        ("what is missing, notes", "reason"),
    ]
    return table(head, rows)


def seed_section(results: list[Result]) -> str:
    """Strip plots of errors and perplexities wherever there are two seeds or more."""
    parts = []
    for key, unit in (("top1_error_percent", "top-1 error, percent"), ("test_perplexity", "test perplexity")):
        rows = []
        for name, group in groups(results).items():
            values = by_seed(group, key)
            if len(values) > 1:
                rows.append((name, values))
        if rows:
            caption = f"{unit}: a dot is a seed, the bar their mean"
            parts.append(f"<figure>{figures.seed_spread(rows, unit)}<figcaption>{caption}</figcaption></figure>")
    return (
        "".join(parts) or "<p class=missing>One seed only: no spread to show. More seeds: the matrix in dvc.yaml.</p>"
    )


def machine(results: list[Result]) -> str:
    """The distinct environments the results were made in, and this page's own."""
    seen: dict[str, list[str]] = {}
    for r in results:
        env = r.environment()
        if env:
            seen.setdefault(json.dumps(_short(env), sort_keys=True), []).append(r.name)
    rows = []
    for text, names in seen.items() or {json.dumps(_short(environment())): ["this page"]}.items():
        env = json.loads(text)
        listed = ", ".join(f"{k} {v}" for k, v in env.pop("packages").items())
        what = "; ".join(f"{k} {v}" for k, v in env.items())
        rows.append(
            [
                html.escape(what),
                html.escape(listed),
                html.escape(f"{len(names)}: " + ", ".join(names[:4]) + ("…" if len(names) > 4 else "")),
            ]
        )
    return table([("machine", ""), ("packages", ""), ("results", "")], rows)


def _short(env: dict[str, Any]) -> dict[str, Any]:
    keep = {k: env[k] for k in ("processor", "cores", "threads", "gpus", "cuda", "python", "platform") if env.get(k)}
    packages = {k: v for k, v in (env.get("packages") or {}).items() if v}
    return {**keep, "packages": packages}
