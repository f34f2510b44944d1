"""``python -m reproductions report``: results/report.html, one self-contained page for screen, phone and print.

Answers first: verdicts by kind and the numbers that matter; then for each paper what was found, its curve over the
authors' where there is one, and its score beside random search; every run and every claim folded below. Built from what
is on disk; nothing is loaded from elsewhere.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from common.papers import PAPERS
from common.run.files import environment, write_text
from reproductions import kept
from reproductions.arguments import OneLineParser
from reproductions.claims import load_all
from reproductions.compare.groups import groups
from reproductions.docs.pages import origin, title
from reproductions.kinds import CONTEXT, Headline, by_kind, headline
from reproductions.listing import absent_data, counted, measured
from reproductions.report import figures
from reproductions.report.found import against, chance, commit, compared, date, is_random, says, took, trained
from reproductions.results import RESULTS, Result, by_seed, load
from reproductions.verdicts import NOT_RUN, VERDICTS, Verdict

PROFILES = {
    "paper": "the papers' data and budgets",
    "proxy": "real data at reduced budget: does not count as reproduced",
    "smoke": "embedded digits and text: shows that everything runs and learns, says nothing about the papers",
}
CLASS = {"reproduced": "yes", "not reproduced": "no", "inconclusive": "maybe", "not run": "none", "": "none"}
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
    verdicts = kept.verdicts(load_all(), results)
    out = args.out or args.results / "report.html"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page(results, verdicts, args.results))
    print(f"{out}: {len(results)} results; {counted(verdicts)}")
    return 0


def page(results: list[Result], verdicts: list[Verdict], folder: Path) -> str:
    """The whole page. folder: of the results, for studies that are no run of a paper."""
    body = [
        "<h1>Five one-shot architecture searches, replicated</h1>",
        "<nav>" + "".join(f'<a href="#{p}">{title(p)}</a>' for p in PAPERS) + '<a href="#spread">Seeds</a>'
        '<a href="#machine">Machines</a></nav>',
        "<h2 id=claims>What came back</h2>",
        "<p>Verdicts on published numbers, by what kind of number it is. A count that comes out says nothing about an "
        "error rate, so kinds are never added up. Only the code itself, the authors' weights, and runs at the papers' "
        "own data and budget decide; reduced runs (smoke, proxy) are shown and never count.</p>",
        kind_table(verdicts), f"<p class=muted>{html.escape(absent_data(verdicts))}</p>" * bool(absent_data(verdicts)),
        "<h3>The numbers that matter</h3>",
        headline_table(headline(verdicts)),
    ]  # fmt: skip
    for paper in PAPERS:
        mine = [v for v in verdicts if v.claim.paper == paper]
        body.append(section(paper, [r for r in results if r.paper == paper], mine))
    body += [compared_searches(folder), "<h2 id=spread>Seeds</h2>", seed_section(results)]
    body += ["<h2 id=machine>Machines</h2>", machine(results)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>NAS replications: report</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + f"\n<script>{SCRIPT}</script>\n</body></html>\n"
    )


def table(head: list[tuple[str, str]], rows: list[list[str]]) -> str:
    """A table; ``head`` is (title, css class) and cells are HTML. A row of one cell is a heading over all columns."""
    top = "".join(f'<th class="{css}">{html.escape(title)}</th>' for title, css in head)
    lines = []
    for row in rows:
        if len(row) == 1:
            lines.append(f'<th class=group colspan="{len(head)}">{row[0]}</th>')
        else:
            lines.append("".join(f'<td class="{css}">{cell}</td>' for cell, (_, css) in zip(row, head, strict=True)))
    return (
        f"<div class=scroll><table><thead><tr>{top}</tr></thead><tbody>"
        + "".join(f"<tr>{line}</tr>" for line in lines)
        + "</tbody></table></div>"
    )


def tag(verdict: str) -> str:
    return f'<span class="tag {CLASS[verdict]}">{verdict or "context"}</span>'


def kind_table(verdicts: list[Verdict]) -> str:
    """A line a paper and kind."""
    rows: list[list[str]] = []
    for row in by_kind(verdicts):
        if (heading := [f'<a href="#{row.paper}">{title(row.paper)}</a>']) not in rows:
            rows.append(heading)
        counts = [
            f'<b class="{CLASS[w]}">{row.counts[w]}</b>' if row.counts[w] else "<small>0</small>" for w in VERDICTS
        ]
        others = [
            v for v in verdicts if (v.claim.paper, v.claim.kind) == (row.paper, row.kind) and not v.claim.published
        ]
        ran = sum(v.verdict != NOT_RUN for v in others)
        met = f"{row.others_met} of {ran}" if ran else "none run" if others else "none"
        rows.append([html.escape(row.kind), str(row.published), *counts, met])
    head = [("kind of number", ""), ("published", "n"), *((word, "n") for word in VERDICTS)]
    return table([*head, ("of the authors' code alone, met", "n")], rows)


def headline_table(rows: list[Headline]) -> str:
    """Published, here, at what scale, seeds, verdict; reduced runs beside it."""
    open_rows = [row for row in rows if row.verdict.verdict != "not run" or row.reduced != "–"]
    rest = [row for row in rows if row not in open_rows]
    shown = _headlines(open_rows) if open_rows else "<p class=missing>None of them was run here.</p>"
    words = f"{len(rest)} more that were not run, neither at the paper's scale nor reduced"
    return shown + (f"<details><summary>{words}</summary>{_headlines(rest)}</details>" if rest else "")


def _headlines(rows: list[Headline]) -> str:
    lines: list[list[str]] = []
    seen: set[str] = set()
    for row in rows:
        if row.paper not in seen:
            lines.append([title(row.paper)])
        seen.add(row.paper)
        cells = (row.published, row.here, row.scale, row.seeds)
        published, here, scale, seeds = (html.escape(cell) for cell in cells)
        label = f"{html.escape(row.label)}<small>{html.escape(row.kind)}</small>"
        lines.append([label, published, here, scale, seeds, tag(row.verdict.verdict), html.escape(row.reduced)])
    head = [("number", "label"), ("published", "n"), ("here", "n"), ("scale", ""), ("seeds", "n"), ("verdict", ""),
            ("reduced runs, no verdict", "")]  # fmt: skip
    return table(head, lines)


def section(paper: str, results: list[Result], verdicts: list[Verdict]) -> str:
    """One paper: the largest profile that ran open, the others and the claims folded."""
    parts = [f'<h2 id="{paper}">{title(paper)}</h2>']
    profiles = [p for p in PROFILES if any(r.profile == p for r in results)]
    for number, profile in enumerate(profiles):
        mine = [r for r in results if r.profile == profile]
        shown = profile_section(mine)
        about = f"<h3>Profile {profile}</h3><p class=muted>{PROFILES[profile]}</p>"
        words = f"Profile {profile}: {len(mine)} runs"
        parts.append(about + shown if not number else f"<details><summary>{words}</summary>{about}{shown}</details>")
    if not results:
        parts.append("<p class=missing>No results yet: <code>make reproduce</code> runs the smoke profile.</p>")
    words = f"All {len(verdicts)} claims: {counted(verdicts)}"
    parts.append(f"<details><summary>{words}</summary>{claims_table(verdicts)}</details>")
    return "\n".join(parts)


def profile_section(results: list[Result]) -> str:
    """What was found, curves, random search, studies; then every run."""
    kinds = groups(results)
    beside = [a for name, group in kinds.items() if (a := against(group, _short(name), results))]
    parts = [found_cards(kinds, results)]
    if curves := figures.curves(kinds):
        parts.append(f"<h4>Curves</h4><div class=multiples>{curves}</div>")
    if beside:
        parts.append(f"<h4>Beside random search</h4><div class=multiples>{figures.comparison(beside)}</div>")
    if scatters := figures.rank_scatters(kinds):
        parts.append(f"<h4>Does the supernet rank right?</h4><div class=multiples>{scatters}</div>")
    parts += [f"<h4>Study</h4>{s}" for r in results if (s := figures.study(r.path.parent))]
    parts.append(f"<details><summary>Every run ({len(results)})</summary>{run_table(kinds, results)}</details>")
    return "\n".join(parts)


def _short(name: str) -> str:
    return name.split("/", 2)[-1]


def found_cards(kinds: dict[str, list[Result]], results: list[Result]) -> str:
    """A card a search: picture of what it found, run time, day and commit, its numbers, random search."""
    cards = []
    for name, group in kinds.items():
        if is_random(group[0], results) or not (pictures := figures.drawings(group[0])):
            continue
        numbers = "".join(f"<li>{html.escape(what)}: <b>{html.escape(value)}</b></li>" for what, value in says(group))
        words = [*trained(group, results), *beside_random(group, _short(name), results)]
        near = "".join(f"<li>{html.escape(word)}</li>" for word in words)
        made = f"{took(group)}, {date(group[0])}, commit {commit(group[0])}"
        caption = f"<b>{html.escape(_short(name))}</b>, seed {group[0].seed}, {made}"
        cards.append(
            f"<figure class=found><div class=paper>{''.join(pictures)}</div>"
            f"<figcaption>{caption}<ul>{numbers}{near}</ul></figcaption></figure>"
        )
    return f"<h4>Found</h4>{''.join(cards)}" if cards else ""


def beside_random(group: list[Result], label: str, results: list[Result]) -> list[str]:
    """What random search gives, and how likely a random cell is as good; one line where nothing says so."""
    if is_random(group[0], results):
        return ["this is random search"]
    found = against(group, label, results)
    said = [compared(found)] if found else []
    said += [chance(group[0])] if chance(group[0]) else []
    return said or ["no random search of this kind was run"]


def run_table(kinds: dict[str, list[Result]], results: list[Result]) -> str:
    """Every kind of run with what came out; where it ran for several seeds, every seed below it."""
    rows = []
    for name, group in kinds.items():
        marks = " (unpinned data)" if any(r.unpinned for r in group) else ""
        near = "; ".join(beside_random(group, _short(name), results))
        seeds = ", ".join(str(seed) for seed in sorted({r.seed for r in group}))
        rows.append([
            f"<b>{html.escape(_short(name))}</b>{marks}", seeds, _said(group), html.escape(near), took(group),
            date(group[0]), f"<code>{commit(group[0])}</code>",
        ])  # fmt: skip
        if len(group) > 1:
            for r in sorted(group, key=lambda r: r.seed):
                one = (f"<small>{html.escape(r.path.parent.name)}</small>", str(r.seed), _said([r]), "as above")
                rows.append([*one, took([r]), date(r), f"<code>{commit(r)}</code>"])
    head = [("run", "id"), ("seeds", ""), ("what came out", "wide"), ("random search", "wide"), ("run time", "n"),
            ("date", "n"), ("commit", "")]  # fmt: skip
    return table(head, rows)


def _said(group: list[Result]) -> str:
    said = says(group)
    return "<br>".join(f"{html.escape(what)} <b>{html.escape(value)}</b>" for what, value in said) or "no numbers"


def claims_table(verdicts: list[Verdict]) -> str:
    """Every claim with value, margin, measurement and verdict; quoted numbers last."""
    rows = []
    for v in sorted(verdicts, key=lambda v: v.claim.kind == CONTEXT):
        c = v.claim
        command = f"<br><code>{html.escape(c.command)}</code>" if c.command and c.needs else ""
        rows.append([
            html.escape(c.id.split(".", 1)[1]), html.escape(c.kind), html.escape(c.quantity.replace("_", " ")),
            html.escape(origin(v)), html.escape(measured(v)), tag(v.verdict),
            html.escape(v.reason or c.note) + command,
        ])  # fmt: skip
    head = [("claim", "id"), ("kind", ""), ("quantity", ""), ("published († only by the authors' code)", "n"),
            ("measured", "n"), ("verdict", ""), ("what is missing, notes", "reason")]  # fmt: skip
    return table(head, rows)


def compared_searches(folder: Path) -> str:
    """The comparison of all searches where the truth is known, where its figure was written."""
    found = figures.study(folder / "compare_nb201")
    return f"<h2 id=compared>The searches where the truth is known</h2>{found}" if found else ""


def seed_section(results: list[Result]) -> str:
    """Dots and intervals of errors, accuracies and perplexities wherever there are two seeds or more."""
    parts = []
    for key, unit in (
        ("top1_error_percent", "top-1 error, %"), ("test_perplexity", "test perplexity"),
        ("chosen_test_accuracy_percent", "test accuracy of the chosen cell (table), %"),
        ("tau", "Kendall's tau of supernet and table"), ("forgetting_points", "forgetting, points"),
    ):  # fmt: skip
        rows = [(name, values) for name, group in groups(results).items() if len(values := by_seed(group, key)) > 1]
        if rows:
            caption = f"{unit}: a dot is a seed, the bar their mean, the line its 95 % interval"
            chart = figures.seed_spread(rows, unit)
            parts.append(f"<figure class=wide>{chart}<figcaption>{caption}</figcaption></figure>")
    if not parts:
        return "<p class=missing>One seed only: no spread to show. More seeds: the matrix in dvc.yaml.</p>"
    return f"<div class=multiples>{''.join(parts)}</div>"


def machine(results: list[Result]) -> str:
    """The distinct environments the results were made in, and this page's own."""
    seen: dict[str, list[str]] = {}
    for r in results:
        env = r.environment()
        if env:
            seen.setdefault(json.dumps(_environment(env), sort_keys=True), []).append(r.name)
    rows = []
    for text, names in seen.items() or {json.dumps(_environment(environment())): ["this page"]}.items():
        env = json.loads(text)
        listed = ", ".join(f"{k} {v}" for k, v in env.pop("packages").items())
        what = "; ".join(f"{k} {v}" for k, v in env.items())
        shown = f"{len(names)}: {', '.join(names[:4])}{'…' * (len(names) > 4)}"
        rows.append([html.escape(what), html.escape(listed), html.escape(shown)])
    found = table([("machine", "wide"), ("packages", "wide"), ("results", "wide")], rows)
    return f"<details><summary>{len(rows)} environments</summary>{found}</details>"


def _environment(env: dict[str, Any]) -> dict[str, Any]:
    names = ("processor", "cores", "threads", "gpus", "cuda", "python", "platform")
    packages = {k: v for k, v in (env.get("packages") or {}).items() if v}
    return {**{k: env[k] for k in names if env.get(k)}, "packages": packages}
