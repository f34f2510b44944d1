"""Small charts as inline SVG: lines, dots and intervals. Colours are the page's (light and dark), letters its own.

A figure is a row of small multiples that share the vertical axis; every axis says its unit. Points are in pixels of a
260 x 170 box that grows and shrinks with the page.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 260, 170
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 20, 30


@dataclass(frozen=True)
class Line:
    """A curve. kind: "run" (a seed), "mean" or "reference"; number: of its colour."""

    label: str
    points: tuple[tuple[float, float], ...]
    kind: str = "run"
    number: int = 0


@dataclass(frozen=True)
class Panel:
    """One chart of a row. x: name and unit of the horizontal axis."""

    title: str
    lines: tuple[Line, ...]
    x: str = "epoch"
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A line of a dot plot: one dot a seed, and the mean with its interval where there is one."""

    label: str
    values: tuple[float, ...]
    mean: float = math.nan
    interval: tuple[float, float] | None = None
    reference: bool = False


def ticks(low: float, high: float, most: int = 4, whole: bool = False) -> list[float]:
    """Round numbers within [low, high], about ``most`` of them; ``whole``: no fractions."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough)
    step = max(1.0, math.ceil(step)) if whole else step
    first = math.ceil(low / step - 1e-9) * step
    return [round(first + k * step, 10) for k in range(int((high - first) / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A tick's label."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def text(x: float, y: float, words: str, anchor: str = "middle", css: str = "") -> str:
    """A line of letters."""
    named = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{html.escape(words)}</text>'


@dataclass
class Scale:
    """Values to pixels. log: for perplexities; whole: marks at whole numbers only, as of epochs."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False
    marks: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            powers = [m * 10.0**p for p in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
            self.marks = [m for m in powers if self.low <= m <= self.high][:5] or [self.low]
        else:
            self.marks = ticks(self.low, self.high, whole=self.whole)

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, 1e-12))
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)


def svg(parts: Sequence[str], alt: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    """A picture with words for those who do not see it."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html.escape(alt, quote=True)}">'
        + "".join(parts)
        + "</svg>"
    )


def bounds(panels: Sequence[Panel]) -> tuple[float, float]:
    """Least and greatest value of a row of charts, with a little room."""
    values = [y for panel in panels for line in panel.lines for _, y in line.points]
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def row(panels: Sequence[Panel], unit: str) -> str:
    """Small multiples that share the vertical axis, each says the ``unit``; perplexities on a log scale."""
    log = "perplexity" in unit
    low, high = bounds(panels)
    if log:
        values = [y for panel in panels for line in panel.lines for _, y in line.points]
        low, high = 0.9 * min(values), 1.1 * max(values)
    return "".join(_panel(panel, unit, (low, high), log) for panel in panels)


def _panel(panel: Panel, unit: str, between: tuple[float, float], log: bool) -> str:
    xs = [x for line in panel.lines for x, _ in line.points]
    across = Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT, whole=True)
    up = Scale(*between, HEIGHT - BOTTOM, TOP, log)
    parts = [text(0, 11, unit, "start", "unit")]
    for mark in up.marks:
        parts.append(f'<path class=grid d="M{LEFT} {up(mark):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(text(LEFT - 4, up(mark) + 3.5, number(mark), "end"))
    for mark in across.marks:
        parts.append(text(across(mark), HEIGHT - BOTTOM + 13, number(mark)))
    parts.append(text(WIDTH - RIGHT, HEIGHT - 3, panel.x, "end", "unit"))
    for line in sorted(panel.lines, key=lambda line: line.kind != "reference"):
        path = "M" + "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in line.points)
        parts.append(f'<path class="line {line.kind} c{line.number % 5}" d="{path}"><title>{html.escape(line.label)}'
                     "</title></path>")  # fmt: skip
    note = f"<span>{html.escape(panel.note)}</span>" if panel.note else ""
    caption = f"<figcaption><b>{html.escape(panel.title)}</b>{note}{_legend(panel.lines)}</figcaption>"
    ends = "; ".join(f"{line.label}: {line.points[-1][1]:.4g} at the end" for line in panel.lines[:6])
    return f"<figure>{svg(parts, f'{panel.title}, {unit} over {panel.x}. {ends}')}{caption}</figure>"


def _legend(lines: Sequence[Line]) -> str:
    if len(lines) < 2:
        return ""
    shown = dict.fromkeys((line.label, line.kind, line.number % 5) for line in lines)
    return "".join(f'<span class="key {kind} k{n}">{html.escape(label)}</span>' for label, kind, n in shown)


def dots(rows: Sequence[Row], unit: str, alt: str) -> str:
    """A dot a seed, a bar for the mean and a line for its 95 % interval; rows share the axis. The labels stand above
    their dots, so that the chart can be as narrow as a phone.
    """
    values = [v for r in rows for v in (*r.values, *(r.interval or ()))]
    if not values:
        return ""
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    width, pitch = 420, 34
    height = pitch * len(rows) + 26
    across = Scale(low - room, high + room, 12, width - 12)
    parts = []
    for mark in across.marks:
        parts.append(f'<path class=grid d="M{across(mark):.1f} 0V{height - 24}"/>')
        parts.append(text(across(mark), height - 12, number(mark)))
    for place, r in enumerate(rows):
        y = pitch * place + 24
        css = "other" if r.reference else "own"
        parts.append(text(2, y - 11, r.label, "start", "name"))
        if r.interval:
            parts.append(
                f'<path class="interval {css}" d="M{across(r.interval[0]):.1f} {y}H{across(r.interval[1]):.1f}"/>'
            )
        parts += [f'<circle class="{css}" cx="{across(v):.1f}" cy="{y}" r="3.5"/>' for v in r.values]
        if not math.isnan(r.mean) and len(r.values) > 1:
            parts.append(f'<path class="mean {css}" d="M{across(r.mean):.1f} {y - 7}V{y + 7}"/>')
    parts.append(text(width - 12, height - 1, unit, "end", "unit"))
    return svg(parts, alt, width, height)


def scatter(
    pairs: Sequence[tuple[float, float]], every: Sequence[tuple[float, float]], units: tuple[str, str], alt: str
) -> str:
    """Pairs as dots; ``units`` of the two axes. every: the pairs of all charts that share these axes."""
    columns = [[pair[k] for pair in every] for k in (0, 1)]
    room = [0.06 * (max(v) - min(v)) or 1.0 for v in columns]
    across = Scale(min(columns[0]) - room[0], max(columns[0]) + room[0], LEFT, WIDTH - RIGHT)
    up = Scale(min(columns[1]) - room[1], max(columns[1]) + room[1], HEIGHT - BOTTOM, TOP)
    parts = [text(0, 11, units[1], "start", "unit"), text(WIDTH - RIGHT, HEIGHT - 3, units[0], "end", "unit")]
    for mark in up.marks:
        parts.append(f'<path class=grid d="M{LEFT} {up(mark):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(text(LEFT - 4, up(mark) + 3.5, number(mark), "end"))
    parts += [text(across(mark), HEIGHT - BOTTOM + 13, number(mark)) for mark in across.marks]
    parts += [f'<circle class=own cx="{across(x):.1f}" cy="{up(y):.1f}" r="3"/>' for x, y in pairs]
    return svg(parts, alt)
