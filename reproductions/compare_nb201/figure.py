"""The comparison as one figure: chosen cells, taus, and how tau comes about."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from reproductions.compare_nb201.judgement import Chance, Rank, Row
from reproductions.compare_nb201.runs import ON, Outcome

INK, MUTED, GRID = "#1f2933", "#52606d", "#e4e7eb"
SERIES = ("#1d4e89", "#c2571a", "#2a7f62", "#8a3ffc", "#b3261e")  # dark enough on white, apart for colour-blind readers
STYLE: Any = {
    "font.size": 9, "axes.edgecolor": MUTED, "axes.labelcolor": INK, "text.color": INK, "xtick.color": MUTED,
    "ytick.color": MUTED, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID,
    "svg.fonttype": "path", "figure.dpi": 100, "legend.frameon": False,
}  # fmt: skip


def figure(rows: Sequence[Row], outcomes: Sequence[Outcome], luck: Chance, best: float, ranks: Sequence[Rank]) -> bytes:
    """SVG: equal inputs give equal bytes. best: accuracy of the best cell."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "compare_nb201"}):
        page, (cells, taus, curves) = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
        try:
            chosen(cells, rows, outcomes, luck, best)
            correlations(taus, rows)
            over_epochs(curves, ranks)
            buffer = io.BytesIO()
            page.savefig(buffer, format="svg", metadata={"Date": None})
        finally:
            pyplot.close(page)
    return buffer.getvalue()


def named(axis: Any, rows: Sequence[Row]) -> None:
    """A line a method, the first on top."""
    axis.set_yticks(range(len(rows)), [row.name for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)


def chosen(axis: Any, rows: Sequence[Row], outcomes: Sequence[Outcome], luck: Chance, best: float) -> None:
    """A dot a seed, a bar for the mean, against the middle of all cells."""
    axis.axvspan(*luck.middle, color=MUTED, alpha=0.12, label="95 % of all cells")
    axis.axvline(luck.test[ON], color=MUTED, linestyle=":", label="mean of all cells")
    axis.axvline(best, color=SERIES[2], linewidth=1, label="best cell")
    for place, row in enumerate(rows):
        values = [o.test[ON] for o in outcomes if o.method == row.key]
        axis.plot(values, [place] * len(values), "o", color=SERIES[0], alpha=0.7, markersize=5)
        if row.test is not None:
            axis.plot([row.test.mean], [place], "|", color=INK, markersize=14)
    named(axis, rows)
    axis.set(xlabel="CIFAR-10 test accuracy of the chosen cell, %", title="Chosen cells")
    axis.legend(fontsize=7, loc="lower left")


def correlations(axis: Any, rows: Sequence[Row]) -> None:
    """Tau of the scores that a method chooses by, with its interval."""
    axis.axvline(0, color=MUTED, linewidth=0.8)
    for place, row in enumerate(rows):
        if math.isnan(row.tau):
            continue
        axis.plot([row.tau], [place], "o", color=SERIES[1], markersize=5)
        if not math.isnan(row.tau_interval[0]):
            axis.plot(row.tau_interval, [place, place], color=SERIES[1], linewidth=1.2)
    named(axis, rows)
    axis.set_yticklabels([])
    axis.set(xlabel="Kendall's tau", title="Scores against the truth", xlim=(-1, 1))


def over_epochs(axis: Any, ranks: Sequence[Rank]) -> None:
    """Tau over the epochs by scale: solid with renewed batch norm, dashed without."""
    axis.axhline(0, color=MUTED, linewidth=0.8)
    for number, scale in enumerate(dict.fromkeys(r.scale for r in ranks)):
        for renewed in (True, False):
            mine = [r for r in ranks if r.scale == scale and r.renewed == renewed and not math.isnan(r.tau)]
            line = {"color": SERIES[number % len(SERIES)], "linestyle": "-" if renewed else "--"}
            axis.plot([r.epoch for r in mine], [r.tau for r in mine], marker=".", label=scale * renewed or None, **line)
    axis.set(
        xlabel="epochs of the supernet", ylabel="Kendall's tau", title="RandomNAS supernets (dashed: BN as trained)"
    )
    if ranks:
        axis.legend(fontsize=7)
