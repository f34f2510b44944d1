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
from common.records import read_json, write_json
from reproductions.arguments import OneLineParser
from reproductions.claims import PAPERS, ROOT, load_all
from reproductions.results import RESULTS, Result, load
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
    args = parser.parse_args(argv)
    results = load(args.results, "smoke")
    if args.regen:
        write_json(args.expected, expectations(results))
        print(f"wrote {args.expected} from {len(results)} results")
        return 0
    if not args.expected.exists():
        raise UserError(f"{args.expected} is missing; write it with: python -m reproductions check --regen")
    faults, checked = compare(results, read_expectations(args.expected))
    if args.metrics:
        for paper in PAPERS:
            mine = [r for r in results if r.paper == paper]
            write_json(args.metrics / f"{paper}.json", summary(mine))
    for fault in faults:
        print(f"FAIL {fault}")
    print(f"{checked} values checked, {len(faults)} wrong")
    return 1 if faults else 0


def read_expectations(path: Path) -> dict[str, Any]:
    """What ``--regen`` wrote. Raises UserError for any other file."""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("stages"), dict):
        raise UserError(f"{path} holds no expectations; write it with: python -m reproductions check --regen")
    for name, stage in content["stages"].items():
        if not isinstance(stage, dict) or not all(isinstance(m, dict) for m in (stage.get("metrics") or {}).values()):
            raise UserError(f"{path}: stage {name!r} is damaged; write it with: python -m reproductions check --regen")
    return content


def stage_name(result: Result) -> str:
    """``paper/stage``, the folder's name without its seed."""
    return f"{result.paper}/{result.path.parent.name.rsplit('-', 1)[0]}"


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
        stages[name] = {"seeds": sorted(r.seed for r in group), "metrics": metrics, "schedules": schedules}
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
    """(faults, number of values checked). A stage that is expected and absent is a fault."""
    faults, checked = [], 0
    by_stage: dict[str, list[Result]] = {}
    for result in results:
        by_stage.setdefault(stage_name(result), []).append(result)
    for name, want in expected["stages"].items():
        if name not in by_stage:
            faults.append(f"{name}: no result; run: dvc repro dvc.yaml")
            continue
        for result in by_stage[name]:
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
        for verdict in decide_all([c for c in load_all() if c.kind == "computed"], []):
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


SUMMARY = ("top1_error_percent", "test_perplexity", "parameters", "macs")


def summary(results: list[Result]) -> dict[str, Any]:
    """One paper's smoke metrics for ``dvc metrics show``: mean over seeds of the few numbers worth a column."""
    collected: dict[str, list[float]] = {}
    for result in results:
        stage = result.path.parent.name.rsplit("-", 1)[0]
        if not stage.startswith(("evaluate", "train")):
            continue
        for key in SUMMARY:
            value = result.metrics.get(key)
            if isinstance(value, (int, float)):
                collected.setdefault(f"{stage}.{key}", []).append(float(value))
    flat = {key: fmean(v) for key, v in sorted(collected.items())}
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        stage, _, metric = key.partition(".")
        nested.setdefault(stage, {})[metric] = round(value, 6)
    return nested
