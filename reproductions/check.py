"""``python -m reproductions check``: the smoke results against ``reproductions/expected/smoke.json``.

Counts, schedules and verdicts are compared exactly, errors within a band that five seeds gave, chosen architectures not
at all: floating point differs between machines. ``--regen`` writes the expectations anew from the results present
(several seeds, see ``seeds``: the band is mean ± max(4 sd, floor), cut at the honest limit of 20 % digit error).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from common.errors import UserError
from common.papers import PAPERS
from common.run.files import read_json, write_json
from reproductions.arguments import OneLineParser
from reproductions.claims import ROOT, load_all
from reproductions.compare.groups import of_pipeline, settings_of
from reproductions.compare.renamed import settings_today, stage_today
from reproductions.results import RESULTS, Result, load, same_path
from reproductions.verdicts import as_expected, decide_all

EXPECTED = ROOT / "reproductions" / "expected" / "smoke.json"
DIGIT_ERROR_LIMIT = 20.0  # percent: a derived network of the smoke profile must have learned
FLOOR = {"top1_error_percent": 3.0, "test_perplexity": 15.0}
# Beside errors, what depends on the chosen architecture or on floating point is bounded, never compared exactly.
BANDED = ("error", "perplexity", "loss", "accuracy", "fitness", "score", "tau", "correlation", "reward")
FOLLOWS_ARCHITECTURE = ("parameters", "macs", "flops", "arch", "novelty")
WHEN_BEST = ("best_generation", "best_epoch")  # follows from noisy scores: any row of the history, from 0 or 1 on
# Columns of history.csv that the settings alone decide: compared row by row, and so is the number of rows.
SCHEDULES = ("phase", "iteration", "epoch", "generation", "lr", "drop_path", "tau", "constraints", "candidates")


def main(argv: list[str]) -> int:
    parser = OneLineParser(prog="python -m reproductions check", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results (default: results)")
    parser.add_argument("--expected", type=Path, default=EXPECTED)
    parser.add_argument("--metrics", type=Path, help="also write <paper>.json summaries here, for dvc metrics show")
    parser.add_argument("--regen", action="store_true", help="write the expectations anew from the results present")
    parser.add_argument("--paper", choices=PAPERS, help="with --regen: only this paper's expectations")
    args = parser.parse_args(argv)
    if args.paper and not args.regen:
        raise UserError("--paper goes with --regen; the check looks at every paper")
    results = load(args.results, "smoke", args.paper)
    if args.regen:
        fresh = expectations([r for r in results if of_pipeline(r)])
        if args.paper and args.expected.exists():
            kept = read_expectations(args.expected)["stages"].items()
            fresh["stages"] |= {name: stage for name, stage in kept if not name.startswith(f"{args.paper}/")}
        write_json(args.expected, fresh)
        print(f"wrote {args.expected} from {len(results)} results")
        return 0
    if not args.expected.exists():
        raise UserError(f"{args.expected} is missing; write it with: python -m reproductions check --regen")
    expected = read_expectations(args.expected)
    faults, checked = compare(results, expected)
    if args.metrics:
        for paper in PAPERS:
            mine = [r for r in results if r.paper == paper and of_pipeline(r)]
            write_json(args.metrics / f"{paper}.json", summary(mine))
    for line in (apart := set_apart(results, expected)).values():
        print(f"not compared: {line}")
    for fault in faults:
        print(f"FAIL {fault}")
    print(f"{checked} values checked, {len(faults)} wrong" + f"; {len(apart)} results not compared" * bool(apart))
    return 1 if faults else 0


def read_expectations(path: Path) -> dict[str, Any]:
    """What ``--regen`` wrote, under today's names of stages and settings. Raises UserError for any other file."""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("stages"), dict):
        raise UserError(f"{path} holds no expectations; write it with: python -m reproductions check --regen")
    for name, stage in content["stages"].items():
        if not isinstance(stage, dict) or not all(isinstance(m, dict) for m in (stage.get("metrics") or {}).values()):
            raise UserError(f"{path}: stage {name!r} is damaged; write it with: python -m reproductions check --regen")
    stages = {}
    for name, stage in content["stages"].items():
        paper, _, was = name.partition("/")
        settings = settings_today(paper, was, stage.get("settings", {}))
        stages[f"{paper}/{stage_today(paper, was)}"] = {**stage, "settings": settings} if settings else stage
    return {**content, "stages": stages}


def stage_name(result: Result) -> str:
    """``paper/stage``."""
    return f"{result.paper}/{result.stage}"


def set_apart(results: list[Result], expected: dict[str, Any]) -> dict[Path, str]:
    """Results that the expectations say nothing of, each with the reason: path of result.json -> line.

    Runs outside the pipeline's folders, runs with settings other than those the expectations were made with (settings
    that only one of the two knows do not count), and runs that use what such a run made.
    """
    apart: dict[Path, str] = {}
    for result in results:
        wanted = expected["stages"].get(stage_name(result), {}).get("settings", {})
        found = settings_of(result)
        other = [name for name in wanted if name in found and found[name] != wanted[name]]
        if not of_pipeline(result):
            apart[result.path] = f"{result.name}: no folder of the pipeline"
        elif other:
            listed = ", ".join(f"{name} {found[name]} instead of {wanted[name]}" for name in other[:3])
            apart[result.path] = f"{result.name}: {listed}{', …' if len(other) > 3 else ''}"
        elif (result.variant or "authors") != expected["stages"].get(stage_name(result), {}).get("variant", "authors"):
            apart[result.path] = f"{result.name}: variant {result.variant}"
    made_by: dict[tuple[str, ...], Path] = {(r.paper, r.path.parent.name): r.path for r in results}
    changed = True
    while changed:  # what a training set apart made, an evaluation reads
        changed = False
        for result in results:
            for value in result.settings.values():
                path = same_path(value)
                source = made_by.get(Path(path).parts[-3:-1]) if isinstance(path, str) and "/" in path else None
                if result.path not in apart and source in apart and source != result.path:
                    apart[result.path] = f"{result.name}: made with {path}"
                    changed = True
    return apart


def rule(metric: str) -> str:
    """exact | band | positive: how one metric is compared."""
    if any(word in metric for word in BANDED):
        return "band"
    if any(word in metric for word in FOLLOWS_ARCHITECTURE):
        return "positive"
    return "exact"


def expectations(results: list[Result]) -> dict[str, Any]:
    """What several seeds of the smoke pipeline gave, as ranges and exact values, and the computed claims' verdicts."""
    stages: dict[str, dict[str, Any]] = {}
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(stage_name(result), []).append(result)
    for name, group in sorted(groups.items()):
        metrics: dict[str, Any] = {}
        keys = set.intersection(*[set(r.metrics) for r in group])
        for key in sorted(keys):
            values = [r.metrics[key] for r in group]
            how = rule(key)
            if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
                if len({json.dumps(v) for v in values}) == 1 and how == "exact":
                    metrics[key] = {"exact": values[0]}
            elif how == "band":
                metrics[key] = _band(key, [float(v) for v in values])
                if key == "test_perplexity" and "unigram_perplexity" in keys:
                    metrics[key]["below"] = "unigram_perplexity"  # a text model must have learned
            elif key in WHEN_BEST:
                metrics[key] = {"min": 0, "max": max(len(r.history()) for r in group)}
            elif how == "positive":
                metrics[key] = {"min": 1}
            elif len(set(values)) == 1 and float(values[0]).is_integer():
                metrics[key] = {"exact": values[0]}
        schedules = {}
        tables = [columns(r) for r in group]
        for key in SCHEDULES:
            if all(key in t and t[key] == tables[0][key] for t in tables):
                schedules[key] = tables[0][key]
        settings = [settings_of(r) for r in group]
        stages[name] = {
            "seeds": sorted(r.seed for r in group), "metrics": metrics, "schedules": schedules,
            "settings": {k: v for k, v in settings[0].items() if all(s.get(k) == v for s in settings)},
        }  # fmt: skip
    return {"stages": stages, "computed_claims": "all reproduced"}


def columns(result: Result) -> dict[str, list[str]]:
    """history.csv by column, as text."""
    rows = result.history()
    return {key: [row[key] for row in rows] for key in rows[0]} if rows else {}


def same(found: list[str] | None, wanted: list[str]) -> bool:
    """Equal row by row; numbers up to the last bits, in which cosines differ between machines."""
    if found is None or len(found) != len(wanted):
        return False

    def close(a: str, b: str) -> bool:
        try:
            return math.isclose(float(a), float(b), rel_tol=1e-9, abs_tol=1e-12)
        except ValueError:
            return a == b

    return all(close(a, b) for a, b in zip(found, wanted))


def _band(metric: str, values: list[float]) -> dict[str, Any]:
    mean = fmean(values)
    sd = stdev(values) if len(values) > 1 else 0.0
    floor = FLOOR.get(metric, max(0.15 * abs(mean), 1e-3))
    half = max(4 * sd, floor) if len(values) > 1 else max(0.5 * abs(mean), floor)
    low, high = mean - half, mean + half
    if "error_percent" in metric:
        low, high = max(0.0, low), min(100.0, high)
        if metric.endswith("top1_error_percent"):
            high = min(high, DIGIT_ERROR_LIMIT)  # also where one of the seeds did not reach it
    return {"min": round(low, 4), "max": round(high, 4)}


def compare(results: list[Result], expected: dict[str, Any]) -> tuple[list[str], int]:
    """(faults, number of values checked). A stage that is expected and absent from the pipeline is a fault."""
    faults, checked = [], 0
    apart = set_apart(results, expected)
    by_stage: dict[str, list[Result]] = {}
    for result in filter(of_pipeline, results):
        by_stage.setdefault(stage_name(result), []).append(result)
    for name, want in expected["stages"].items():
        if name not in by_stage:
            faults.append(f"{name}: no result; run: dvc repro dvc.yaml")
        for result in (r for r in by_stage.get(name, []) if r.path not in apart):
            for metric, bounds in want["metrics"].items():
                checked += 1
                faults += _fault(f"{name} seed {result.seed}: {metric}", result.metrics.get(metric), bounds)
                if (other := bounds.get("below")) and not result.metrics.get(metric, math.inf) < result.metrics.get(
                    other, 0
                ):
                    faults.append(f"{name} seed {result.seed}: {metric} is not below {other}")
            table = columns(result)
            for key, wanted in want.get("schedules", {}).items():
                checked += 1
                if not same(table.get(key), wanted):
                    where = f"{name} seed {result.seed}: column {key} of history.csv"
                    faults.append(f"{where} is {table.get(key)}, expected exactly {wanted}")
    if expected.get("computed_claims"):
        for verdict in decide_all([c for c in load_all() if c.hardest == "computed"], []):
            checked += 1
            if not as_expected(verdict):
                text = f"claim {verdict.claim.id}: {verdict.verdict}: published {verdict.claim.value}"
                faults.append(f"{text}, measured {verdict.measured} {verdict.reason}")
    return faults, checked


def _fault(where: str, value: Any, bounds: dict[str, Any]) -> list[str]:
    if value is None:
        return [f"{where} is missing"]
    if "exact" in bounds:
        return [] if value == bounds["exact"] else [f"{where} is {value}, expected exactly {bounds['exact']}"]
    low, high = bounds.get("min", -math.inf), bounds.get("max", math.inf)
    if isinstance(value, (int, float)) and low <= value <= high:
        return []
    return [f"{where} is {value}, expected {low} to {high}"]


# column of `dvc metrics show` -> (stages that give it, the first that has it counts; metric)
SUMMARY = {
    "test_error_percent": (("evaluate", "train"), "top1_error_percent"),
    "test_perplexity": (("evaluate_ptb", "train_ptb"), "test_perplexity"),
    "table_accuracy_percent": (("search_nb201",), "test_accuracy_percent"),
    "parameters": (("evaluate", "train"), "parameters"),
    "macs": (("evaluate", "train"), "macs"),
}


def summary(results: list[Result]) -> dict[str, float]:
    """One paper's row of ``dvc metrics show``: means over seeds of the few numbers worth a column."""
    found: dict[str, float] = {}
    for column, (stages, metric) in SUMMARY.items():
        for stage in stages:
            values = [float(r.metrics[metric]) for r in results if r.stage == stage and _number(r.metrics.get(metric))]
            if values:
                mean = fmean(values)
                found[column] = round(mean) if mean.is_integer() else round(mean, 6)
                break
    return found


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
