"""Figures of the report: curves, drawn architectures, rank scatter, seed spread; each returned as an <img> data URI."""

from __future__ import annotations

import base64
import contextlib
import csv
import html
import importlib
import io
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from common.cli import verbs as cli
from reproductions.compare.statistics import kendall
from reproductions.results import Result

INK, MUTED, GRID = "#1f2933", "#52606d", "#e4e7eb"
SERIES = ("#1d4e89", "#c2571a", "#2a7f62", "#8a3ffc", "#b3261e")  # dark enough on white, apart for colour-blind readers
STEP_COLUMNS = ("generation", "epoch", "iteration", "round", "step", "update")
WORTH = ("error", "perplexity", "accuracy", "fitness", "loss", "reward", "tau", "score")
RANKS = (("cells.csv", "supernet_percent", "test_percent"), ("rank.csv", "score", "accuracy"))  # supernet and table
STYLE: Any = {
    "font.size": 9, "axes.edgecolor": MUTED, "axes.labelcolor": INK, "text.color": INK, "xtick.color": MUTED,
    "ytick.color": MUTED, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID,
    "svg.fonttype": "path", "figure.dpi": 100, "legend.frameon": False,
}  # fmt: skip


def image(content: bytes, kind: str, alt: str) -> str:
    """An <img> that carries its content; nothing is loaded from elsewhere."""
    data = base64.b64encode(content).decode()
    return f'<img alt="{html.escape(alt, quote=True)}" src="data:image/{kind};base64,{data}">'


@contextlib.contextmanager
def _figure(width: float, height: float, panels: int = 1) -> Iterator[tuple[Any, Any]]:
    import matplotlib  # takes a second, and few commands draw

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(STYLE):
        figure, axes = pyplot.subplots(1, panels, figsize=(width, height), squeeze=False, layout="constrained")
        try:
            yield figure, axes[0]
        finally:
            pyplot.close(figure)


def _svg(figure: Any, alt: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return image(buffer.getvalue(), "svg+xml", alt)


def curves(group: list[Result], title: str) -> list[str]:
    """Up to three columns of the histories of one stage, a picture each, one line a seed. Empty without a history."""
    histories = {r.seed: r.history() for r in group}
    first = next((rows for rows in histories.values() if len(rows) > 1), None)
    if first is None:
        return []
    phase = "phase" if "phase" in first[0] else "part" if "part" in first[0] else ""
    x = next((c for c in STEP_COLUMNS if c in first[0]), "")
    columns = [c for c in first[0] if c not in STEP_COLUMNS and _numeric(first, c) and any(w in c for w in WORTH)]
    columns = [c for c in columns if sum(_float(row.get(c)) is not None for row in first) > 1]  # a dot is no curve
    columns.sort(key=lambda c: next(i for i, w in enumerate(WORTH) if w in c))
    pictures: list[str] = []
    for column in columns[:3]:
        with _figure(3.4, 2.5) as (figure, axes):
            axis = axes[0]
            for i, (seed, rows) in enumerate(sorted(histories.items())):
                points = [(p, v) for k, row in enumerate(rows) if (v := _float(row.get(column))) is not None
                          for p in [k if phase or not x else _float(row.get(x)) or 0]]  # fmt: skip
                if points:
                    axis.plot(*zip(*points, strict=True), color=SERIES[i % len(SERIES)], lw=1.6, marker=".", ms=4,
                              label=f"seed {seed}")  # fmt: skip
            axis.set(xlabel=x if x and not phase else "row of the history", title=column.replace("_", " "))
            axis.title.set_fontsize(9)
            if len(histories) > 1 and not pictures:
                axis.legend()
            pictures.append(_svg(figure, f"{title}: {column} over {x or 'rows'}"))
    return pictures


def drawing(result: Result) -> list[str]:
    """The architecture file beside a result, drawn by the paper's own ``draw`` verb."""
    path = result.path.parent / "architecture.json"
    if not path.exists():
        return []
    try:
        verbs = importlib.import_module(f"papers.{result.paper}.__main__").VERBS
        stage = next(iter(verbs["draw"].stages.values()))
    except (ImportError, KeyError):
        return []
    fields = stage.settings.__dataclass_fields__
    argv = ["draw", str(path)] + (["--format", "svg"] if "format" in fields else [])
    if "recurrent" in fields and "ptb" in result.stage:
        argv.append("--recurrent")
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
            try:
                cli.main(result.paper, verbs, [*argv, "--out", folder])
            except SystemExit as stop:
                if stop.code not in (0, None):
                    return [f"<p class=missing>not drawn: {html.escape(errors.getvalue().strip()[-200:])}</p>"]
        files = sorted(Path(folder).rglob("*.svg")) or sorted(Path(folder).rglob("*.png"))
        kinds = {".svg": "svg+xml", ".png": "png"}
        return [image(f.read_bytes(), kinds[f.suffix], f"{result.name}, {f.stem}") for f in files[:4]]


def seed_spread(rows: list[tuple[str, dict[int, float]]], unit: str) -> str:
    """Strip plot: one row of dots a stage, one dot a seed, the mean as a bar."""
    if not rows:
        return ""
    with _figure(6.4, 0.9 + 0.32 * len(rows)) as (figure, axes):
        axis = axes[0]
        for i, (_, values) in enumerate(rows):
            y = len(rows) - 1 - i
            axis.plot(list(values.values()), [y] * len(values), "o", color=SERIES[0], ms=5, alpha=0.75)
            mean = fmean(values.values())
            axis.plot([mean, mean], [y - 0.3, y + 0.3], color=SERIES[1], lw=2)
        axis.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)])
        axis.set(xlabel=unit, ylim=(-0.6, len(rows) - 0.4))
        return _svg(figure, f"{unit} of every seed by stage")


def rank_scatter(result: Result) -> str:
    """Supernet score against table accuracy of the cells beside a result, with Kendall's tau and its interval."""
    for file, x, y in RANKS:
        path = result.path.parent / file
        if not path.exists():
            continue
        with path.open(newline="", encoding="utf-8") as lines:
            pairs = [(_float(row.get(x)), _float(row.get(y))) for row in csv.DictReader(lines)]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        if len(known) < 3:
            continue
        xs, ys = [a for a, _ in known], [b for _, b in known]
        tau, (low, high), _ = kendall(xs, ys)
        with _figure(3.6, 3.0) as (figure, axes):
            axes[0].plot(xs, ys, "o", color=SERIES[0], ms=4, alpha=0.6)
            axes[0].set(xlabel=x.replace("_", " "), ylabel=y.replace("_", " "))
            measured = "undefined" if math.isnan(tau) else f"{tau:.2f}"
            between = "" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]"
            axes[0].set_title(f"tau {measured}{between}, n = {len(known)}", fontsize=9)
            return _svg(figure, f"{result.name}: {x} against {y}, Kendall's tau {measured}")
    return ""


def _numeric(rows: list[dict[str, str]], column: str) -> bool:
    return any(_float(row.get(column)) is not None for row in rows)


def _float(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
