"""``python -m reproductions compare``: what several seeds, two methods or two rankings say, with intervals.

seeds    mean, sd, t and BCa 95 % intervals over the seeds of each kind of run; the binomial interval of a test error
claims   equivalence (TOST) of the seeds' mean with each published value against its margin, equal variants only
paired   a method against the random-search baseline (or any other stage), seed by seed
rank     Kendall's tau of two columns of a history or scatter file, with its interval
nb201    the searches on NAS-Bench-201 under one protocol (flags of its own: compare nb201 --help)
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.papers import PAPERS
from reproductions.arguments import OneLineParser
from reproductions.claims import ROOT, load_all
from reproductions.compare.groups import groups
from reproductions.compare.seeds import PIPELINES
from reproductions.compare.statistics import binomial_interval, equivalence, kendall, paired, spread
from reproductions.results import RESULTS, Result, by_seed, load, matching

PROFILES = ("smoke", "proxy", "paper")


def main(argv: list[str]) -> int:
    if argv[:1] == ["nb201"]:
        from reproductions.compare_nb201.commands import main as nb201  # brings torch, which the others do without

        return nb201(argv[1:])
    parser = OneLineParser(
        prog="python -m reproductions compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=("seeds", "claims", "paired", "rank", "nb201"), default="seeds")
    parser.add_argument("--profile", choices=PROFILES, default="smoke")
    parser.add_argument("--paper", choices=PAPERS)
    parser.add_argument("--metric", default="", help="key of metrics (default: every error and perplexity)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--a", default="", metavar="PAPER/STAGE", help="paired: the method, for example evnas/search_nb201"
    )
    parser.add_argument(
        "--b", default="", metavar="PAPER/STAGE", help="paired: the other, for example evnas/search_random"
    )
    parser.add_argument("--file", type=Path, help="rank: a CSV file")
    parser.add_argument("--columns", nargs=2, metavar=("X", "Y"), help="rank: its two columns")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    if args.what == "rank":
        rows = [rank(args.file, args.columns)]
    else:
        results = load(args.results, args.profile, args.paper)
        if not results:
            pipeline = PIPELINES[args.profile].relative_to(ROOT)
            raise UserError(
                f"no results below {args.results}/{args.profile}{'/' + args.paper if args.paper else ''}; run the "
                f"pipeline first: dvc repro {pipeline}"
            )
        if args.what == "seeds":
            rows = seeds(results, args.metric)
        elif args.what == "claims":
            rows = against_claims(results, args.paper)
        else:
            rows = [pair(results, args.a, args.b, args.metric or "top1_error_percent")]
    if args.json:
        print(json.dumps(_finite(rows), indent=1, sort_keys=True))
    else:
        show(rows)
    return 0


def seeds(results: list[Result], metric: str = "") -> list[dict[str, Any]]:
    """One row for each stage and metric: the seed matrix with mean, spread and intervals."""
    rows = []
    for name, group in groups(results).items():
        keys = {k for r in group for k, v in r.metrics.items() if isinstance(v, (int, float))}
        wanted = [metric] if metric else sorted(k for k in keys if k.endswith(("_error_percent", "perplexity")))
        for key in wanted:
            values = by_seed(group, key)
            if not values:
                continue
            s = spread(list(values.values()))
            row: dict[str, Any] = {
                "stage": name, "metric": key, "n": s.n, "mean": s.mean, "sd": s.sd, "t95": s.t, "bca95": s.bca,
                "seeds": {str(seed): values[seed] for seed in sorted(values)},
            }  # fmt: skip
            images = next((r.metrics["images"] for r in group if "images" in r.metrics), None)
            if "error_percent" in key and images:
                row["binomial95_first_seed"] = binomial_interval(values[min(values)], int(images))
            rows.append(row)
    if not rows:
        raise UserError(f"no stage has the metric {metric!r}" if metric else "no stage has an error or a perplexity")
    return rows


def against_claims(results: list[Result], paper: str | None) -> list[dict[str, Any]]:
    """TOST of each claim with each kind of run that answers it, at the profile asked for (only `paper` decides)."""
    rows = []
    for claim in load_all(paper):
        if claim.hardest in ("computed", "quoted") or claim.unit == "exact":
            continue
        for name, group in groups(matching(claim, results)).items():
            values = list(by_seed(group, claim.metric_key).values())
            if not values:
                continue
            tost = equivalence(values, float(claim.value), float(claim.margin))
            s = spread(values)
            rows.append({
                "claim": claim.id, "runs": name, "published": claim.value, "margin": claim.margin, "n": s.n,
                "mean": s.mean, "sd": s.sd, "interval90": tost.interval, "p": tost.p, "equivalence": tost.verdict,
            })  # fmt: skip
    if not rows:
        raise UserError("no result here answers a claim; see python -m reproductions claims")
    return rows


def pair(results: list[Result], a: str, b: str, metric: str) -> dict[str, Any]:
    """Paired comparison of two stages over their common seeds."""
    found = groups(results)
    chosen = []
    for name in (a, b):
        match = [key for key in found if key.split("/", 1)[1] == name]
        match = match or [key for key, group in found.items() if any(_folder(r) == name for r in group)]
        if len(match) != 1:
            known = ", ".join(k.split("/", 1)[1] for k in match or found)
            raise UserError(f"{'several kinds' if match else 'no results'} of {name!r}; there are {known}")
        chosen.append(by_seed(found[match[0]], metric))
    try:
        p = paired(chosen[0], chosen[1])
    except ValueError as error:
        raise UserError(f"{a} against {b}: {error} with {metric}") from None
    return {
        "a": a, "b": b, "metric": metric, "n": p.n, "difference": p.difference, "t95": p.interval,
        "p_t": p.p_t, "p_wilcoxon": p.p_wilcoxon,
    }  # fmt: skip


def _folder(result: Result) -> str:
    """``paper/folder`` without the seed: another name for a kind of run."""
    return f"{result.paper}/{result.path.parent.name.rsplit('-', 1)[0]}"


def rank(path: Path | None, columns: list[str] | None) -> dict[str, Any]:
    """Kendall's tau of two columns of a CSV file."""
    if path is None or columns is None:
        raise UserError("rank needs --file FILE.csv --columns X Y")
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            table = list(csv.DictReader(lines))
        x, y = ([float(row[c]) for row in table] for c in columns)
        tau, interval, p = kendall(x, y)
    except KeyError as error:
        raise UserError(f"{path} has no column {error}; it has {', '.join(table[0])}") from None
    except TypeError:
        raise UserError(f"{path}: a row is shorter than the header; make the file again") from None
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: {error}") from None
    return {
        "file": str(path),
        "x": columns[0],
        "y": columns[1],
        "n": len(table),
        "tau": tau,
        "interval95": interval,
        "p": p,
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Aligned text."""
    for row in rows:
        print("  ".join(f"{key} {_text(value)}" for key, value in row.items()))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return "–" if any(math.isnan(v) for v in value) else f"[{value[0]:.4g}, {value[1]:.4g}]"
    if isinstance(value, dict):
        return " ".join(f"{k}:{v:.4g}" for k, v in value.items())
    return str(value)


def _finite(value: Any) -> Any:
    """NaN is no JSON: null instead."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
