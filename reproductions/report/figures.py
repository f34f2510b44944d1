"""Figures of the report: curves over the authors' where there are any, drawn architectures, seeds, rank scatter."""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import html
import importlib
import io
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from common.errors import UserError
from common.run.files import write_text
from reproductions.claims import ROOT
from reproductions.compare.statistics import kendall, spread
from reproductions.computed import KEPT
from reproductions.report.charts import Line, Panel, Row, dots, row, scatter
from reproductions.report.found import Against
from reproductions.results import Result

REFERENCE = ROOT / "reproductions" / "reference"
X = ("generation", "epoch", "iteration", "number", "round", "target")
MAIN = (
    # column of a history, unit of its axis; the first that a history has is its main curve
    ("test_top1_error_percent", "top-1 error, %"),
    ("top1_error_percent", "top-1 error, %"),
    ("test_perplexity", "perplexity"),
    ("valid_perplexity", "perplexity"),
    ("valid_top1_error_percent", "top-1 error, %"),
    ("random_path_top1_error_percent", "top-1 error, %"),
    ("train_top1_error_percent", "top-1 error, %"),
    ("table_test", "accuracy, %"),
    ("fitness_best", "accuracy, %"),
    ("valid_top1_percent", "accuracy, %"),
    ("best", "accuracy, %"),
    ("valid_accuracy_percent", "accuracy, %"),
    ("test_percent", "accuracy, %"),
    ("train_loss", "loss, nats"),
    ("loss", "loss, nats"),
)
RANKS = (("cells.csv", "supernet_percent", "test_percent"), ("rank.csv", "score", "accuracy"))
UNITS = {"supernet_percent": "supernet, %", "test_percent": "table, %", "score": "supernet", "accuracy": "alone, %"}
DRAWING = ("common/spaces", "reproductions/report/figures.py")
"""Code that a kept picture depends on, besides the paper's describe.py."""


def image(content: bytes, kind: str, alt: str) -> str:
    """An <img> that carries its content; nothing is loaded from elsewhere."""
    data = base64.b64encode(content).decode()
    return f'<img alt="{html.escape(alt, quote=True)}" src="data:image/{kind};base64,{data}">'


def curves(groups: dict[str, list[Result]]) -> str:
    """Small multiples of the main curves of a paper's runs, a chart a kind of run and a line a seed; charts of one unit
    share their axis.
    """
    by_unit: dict[str, list[Panel]] = {}
    for name, group in groups.items():
        found = panel(name.split("/", 2)[-1], group)
        if found is not None:
            by_unit.setdefault(found[0], []).append(found[1])
    return "".join(row(panels, unit) for unit, panels in by_unit.items())


def panel(name: str, group: Sequence[Result]) -> tuple[str, Panel] | None:
    """(unit, chart) of the main curve of runs of one kind; None without a history of two rows."""
    histories = {r.seed: r.history() for r in group}
    for column, unit in MAIN:
        series = {seed: _series(rows, column) for seed, rows in sorted(histories.items())}
        series = {seed: points for seed, points in series.items() if len(points) > 1}
        if not series:
            continue
        first = next(rows for rows in histories.values() if rows)
        x = next((c for c in X if c in first[0]), "row")
        lines = [Line(f"seed {seed}", tuple(points), number=k) for k, (seed, points) in enumerate(series.items())]
        if len(lines) > 1:
            lines = [Line(f"{len(lines)} seeds", line.points) for line in lines]
            lines.append(Line("mean", _mean([line.points for line in lines]), "mean", 1))
        reference = reference_of(group[0], column)
        note = column.replace("_percent", "").replace("_", " ").replace("top1", "top-1")
        if reference is not None:
            lines = [_share(line) for line in lines] + [_share(reference)]
            x = "share of the run, %"
        return unit, Panel(name, tuple(lines), x, note)
    return None


def _series(rows: list[dict[str, str]], column: str) -> list[tuple[float, float]]:
    """Points of a column over its epochs; of a history with phases those of the phase that has most."""
    known = [r for r in rows if _float(r.get(column)) is not None]
    phases = [r.get("phase") or r.get("policy") or "" for r in known]
    if phases:
        most = max(dict.fromkeys(phases), key=phases.count)
        known = [r for r, phase in zip(known, phases, strict=True) if phase == most]
    x = next((c for c in X if known and c in known[0]), "")
    found = {
        (_float(r.get(x)) if x else None) or (0.0 if x else float(k)): _float(r[column]) for k, r in enumerate(known)
    }
    return [(a, b) for a, b in found.items() if b is not None]


def _mean(series: Sequence[Sequence[tuple[float, float]]]) -> tuple[tuple[float, float], ...]:
    shared = sorted(set.intersection(*({x for x, _ in points} for points in series)))
    values = [dict(points) for points in series]
    return tuple((x, fmean(v[x] for v in values)) for x in shared)


def _share(line: Line) -> Line:
    low, high = line.points[0][0], line.points[-1][0]
    points = tuple((100 * (x - low) / ((high - low) or 1), y) for x, y in line.points)
    return Line(line.label, points, line.kind, line.number)


def reference_of(result: Result, column: str) -> Line | None:
    """The authors' curve of the same stage, set and column, where the repository has one."""
    path = REFERENCE / f"{result.paper}.json"
    if not path.exists():
        return None
    for entry in json.loads(path.read_text(encoding="utf-8")):
        same = all(result.settings.get(name, value) == value for name, value in entry["settings"].items())
        if entry["stage"] == result.stage and same and column in entry["columns"]:
            return Line(entry["label"], tuple(enumerate(entry["columns"][column])), "reference", 4)
    return None


def drawings(result: Result, most: int = 2) -> list[str]:
    """The architecture file beside a result, drawn by the paper's own ``draw`` verb; kept while file and code stay."""
    path = result.path.parent / "architecture.json"
    if not path.exists():
        return []
    parts = [ROOT / "papers" / result.paper / "describe.py", *(p for f in DRAWING for p in _files(ROOT / f))]
    code = b"".join(part.read_bytes() for part in parts if part.exists())
    content = code + path.read_bytes() + str(path).encode()
    return kept(f"picture-{result.paper}", content, lambda: _drawn(result, path))[:most]


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _drawn(result: Result, path: Path) -> list[str]:
    from common.cli import verbs as cli  # its parser takes half a second to import, and most pictures are kept

    try:
        verbs = importlib.import_module(f"papers.{result.paper}.__main__").VERBS
        verbs["draw"]
    except (ImportError, KeyError):
        return []
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
            try:
                cli.main(result.paper, verbs, ["draw", str(path), "--format", "svg", "--out", folder])
            except SystemExit as stop:
                if stop.code not in (0, None):
                    return [f"<p class=missing>not drawn: {html.escape(errors.getvalue().strip()[-200:])}</p>"]
        files = sorted(Path(folder).rglob("*.svg"))
        return [image(f.read_bytes(), "svg+xml", f"{result.name}, {f.stem}") for f in files]


def seed_spread(rows: list[tuple[str, dict[int, float]]], unit: str) -> str:
    """A line a kind of run, a dot a seed, the mean with its 95 % interval."""
    found = [_row(label, list(values.values())) for label, values in rows]
    return dots(found, unit, f"{unit} of every seed, by kind of run") if found else ""


def comparison(found: Sequence[Against]) -> str:
    """Scores beside random search's, with intervals: one chart a quantity."""
    parts = []
    for unit in dict.fromkeys(a.unit for a in found):
        mine = [a for a in found if a.unit == unit]
        rows = [_row(a.label, list(a.own)) for a in mine]
        for random in dict.fromkeys(a.random for a in mine):
            rows.append(_row(f"random search ({len(random)} run{'s' * (len(random) > 1)})", list(random), True))
        chart = dots(rows, unit, f"{unit}: beside random search")
        parts.append(f"<figure class=wide>{chart}<figcaption>{html.escape(unit)}: a dot is a run, a line the 95 % "
                     "interval of the mean over runs</figcaption></figure>")  # fmt: skip
    return "".join(parts)


def _row(label: str, values: list[float], reference: bool = False) -> Row:
    s = spread(values)
    interval = None if math.isnan(s.t[0]) else s.t
    return Row(label, tuple(values), s.mean, interval, reference)


def rank_scatters(groups: dict[str, list[Result]]) -> str:
    """Supernet score against true accuracy of the cells beside each kind of run, on shared axes, with Kendall's tau."""
    found = {}
    for name, group in groups.items():
        for file, x, y in RANKS:
            if pairs := _pairs(group[0].path.parent / file, x, y):
                found[name] = (pairs, (x, y))
                break
    parts = []
    for name, (pairs, columns) in found.items():
        tau, low, high = tau_of(pairs)
        measured = "undefined" if math.isnan(tau) else f"{tau:.2f}"
        between = "" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]"
        every = [pair for others, same in found.values() if same == columns for pair in others]
        alt = f"{name}: {columns[0]} against {columns[1]}, Kendall's tau {measured}"
        chart = scatter(pairs, every, (UNITS[columns[0]], UNITS[columns[1]]), alt)
        label = f"{name.split('/', 2)[-1]}, seed {groups[name][0].seed}"
        caption = f"tau {measured}{between}, n = {len(pairs)}"
        parts.append(f"<figure>{chart}<figcaption><b>{html.escape(label)}</b> {caption}</figcaption></figure>")
    return "".join(parts)


def tau_of(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Kendall's tau with its bootstrap interval, kept: a thousand resamples are half a second."""

    def computed() -> list[float | None]:
        tau, (low, high), _ = kendall([a for a, _ in pairs], [b for _, b in pairs])
        return [None if math.isnan(value) else value for value in (tau, low, high)]

    code = (ROOT / "reproductions" / "compare" / "statistics.py").read_bytes()
    tau, low, high = (math.nan if v is None else v for v in kept("tau", code + json.dumps(pairs).encode(), computed))
    return tau, low, high


def kept(word: str, depends_on: bytes, make: Callable[[], list[Any]]) -> list[Any]:
    """``make()``, or what it gave earlier for the same bytes (``results/scratch``; deleting it is always safe)."""
    path = KEPT / f"{word}-{hashlib.sha256(depends_on).hexdigest()[:24]}.json"
    with contextlib.suppress(OSError, ValueError):
        return list(json.loads(path.read_text(encoding="utf-8")))
    found = make()
    if found and not str(found[0]).startswith("<p class=missing>"):  # what failed is tried again
        with contextlib.suppress(OSError, UserError):
            write_text(path, json.dumps(found))
    return found


def _pairs(path: Path, x: str, y: str) -> list[tuple[float, float]]:
    """Two columns of a CSV file where both are numbers; nothing for fewer than three rows."""
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            read = [(_float(line.get(x)), _float(line.get(y))) for line in csv.DictReader(lines)]
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: not what a run writes ({error}); run that stage again") from None
    known = [(a, b) for a, b in read if a is not None and b is not None]
    return known if len(known) > 2 else []


def study(folder: Path) -> str:
    """Figure and first sentences of a study: ``figure.svg`` and ``paragraph.txt`` of a folder."""
    figure, said = folder / "figure.svg", folder / "paragraph.txt"
    if not figure.exists() or not said.exists():
        return ""
    lines = [line for line in said.read_text(encoding="utf-8").splitlines() if line.strip()]
    intervals = [line for line in lines if "[" in line and len(lines) > 1]
    first = "".join(f"<p>{html.escape(line)}</p>" for line in lines if line not in intervals)
    rest = "".join(f"<p>{html.escape(line)}</p>" for line in intervals)
    picture = image(figure.read_bytes(), "svg+xml", f"figure of the study in {folder.name}")
    return (
        f"<figure class=full>{picture}</figure>{first}"
        + f"<details><summary>All intervals</summary>{rest}</details>" * bool(intervals)
    )


def _float(value: Any) -> float | None:
    try:
        found = float(value or "")
    except ValueError:
        return None
    return found if math.isfinite(found) else None
