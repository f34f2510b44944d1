"""The comparison in words: a table, and a paragraph that says plainly what beats chance and what does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from common.data.nasbench201 import DATASETS
from reproductions.compare_nb201.judgement import DRAWS, SEEDS, Chance, Interval, Rank, Row
from reproductions.compare_nb201.runs import BASELINE, ON

NOT_RUN = "not run"
HEAD = (
    "search", "a cell is scored by", "seeds", "Kendall's tau", "CIFAR-10 test, %", "regret", "ranks", "p (chance)",
    "minus random search", "CIFAR-100, %", "ImageNet16-120, %", "core-minutes",
)  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """What every search had, for the sentences; read from the protocol."""

    dataset: str
    channels: int
    cells: int
    images: int
    epochs: int
    scored: int
    scored_images: int

    def __str__(self) -> str:
        return (
            f"supernet with C = {self.channels} and {self.cells} cell{'s' * (self.cells > 1)} a stage, {self.epochs} "
            f"epochs of {self.images:,} images of {self.dataset}, {self.scored} cells scored on {self.scored_images:,} "
            f"images each"
        )


def number(value: float, digits: int = 2, sign: bool = False) -> str:
    """–, where there is none."""
    return "–" if math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def between(interval: Interval, digits: int = 2, sign: bool = False) -> str:
    """ " [low, high]", or nothing where there is none."""
    low, high = interval
    return "" if math.isnan(low) else f" [{number(low, digits, sign)}, {number(high, digits, sign)}]"


def table(rows: Sequence[Row], luck: Chance) -> str:
    """Markdown: a row a method, then chance and the best cell."""
    lines = ["| " + " | ".join(HEAD) + " |", "| --- | --- " + "| ---: " * (len(HEAD) - 2) + "|"]
    others = [name for name in DATASETS if name != ON]
    for row in rows:
        if row.test is None or row.elsewhere is None:
            lines.append(f"| {row.name} | {row.rule} | 0 | {NOT_RUN} " + "| " * (len(HEAD) - 4) + "|")
            continue
        gap = number(row.difference, sign=True) + between(row.difference_interval, sign=True)
        cells = (
            row.name, row.rule, str(row.n), number(row.tau) + between(row.tau_interval),
            number(row.test.mean) + between(row.test.t), number(row.regret), ", ".join(f"{r:,}" for r in row.ranks),
            probability(row.p_chance), "baseline" if row.key == BASELINE else gap,
            *(number(row.elsewhere[name]) for name in others), number(row.cpu_seconds / 60, 0),
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines.append(
        f"| one uniformly drawn cell (exact) | none | all | 0 | {number(luck.test[ON])} | {number(luck.regret)} "
        f"| mean {luck.rank:,.0f} | – | – | " + " | ".join(number(luck.test[name]) for name in others) + " | 0 |"
    )
    return "\n".join(lines)


def probability(p: float) -> str:
    """Three digits, or that it is smaller."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def paragraph(rows: Sequence[Row], luck: Chance, ranks: Sequence[Rank], scale: Scale) -> str:
    """Everything in it is computed from the rows; a method that was not run is named as such."""
    ran = [row for row in rows if row.test is not None]
    lines = [
        f"Scale: {scale}; a reduced scale, which answers no published claim.",
        f"One uniformly drawn cell has {luck.test[ON]:.2f} % on average (95 % of the cells lie within "
        f"{between(luck.middle).strip()} %, 95 % of {DRAWS:,} means of {SEEDS} drawn cells within "
        f"{between(luck.middle_of_mean).strip()} %); the best of {luck.scored} such cells, were their true accuracies "
        f"known, {luck.best_test:.2f} %.",
    ]
    if not ran:
        return " ".join([*lines, "No search has been run yet.\n"]) + curve_sentence(ranks, luck)
    better, rest = [r for r in ran if r.beats_chance], [r for r in ran if not r.beats_chance]
    lines.append(
        f"Beyond chance (mean rank of the chosen cells against as many uniform cells, {DRAWS:,} draws, Holm's "
        f"correction for {len(ran)} methods, p < 0.05): {'; '.join(map(said, better)) or 'none'}."
    )
    lines.append(f"Not shown to be better than chance: {'; '.join(map(said, rest)) or 'none'}.")
    compared = [row for row in ran if row.paired_n]
    if compared:
        known = [row for row in compared if not math.isnan(row.difference_interval[0])]
        above = [r for r in known if r.difference_interval[0] > 0]
        below = [r for r in known if r.difference_interval[1] < 0]
        lines.append(
            f"Against random search with the same budget, paired by seed (95 % t intervals, not corrected): better "
            f"{'; '.join(map(gap, above)) or 'none'}; worse {'; '.join(map(gap, below)) or 'none'}; not told apart "
            f"{'; '.join(gap(r) for r in compared if r not in above and r not in below) or 'none'}."
        )
    if absent := [row.name for row in rows if row.test is None]:
        lines.append(f"Not run: {', '.join(absent)}.")
    if few := [f"{row.name} {row.n}" for row in ran if row.n < SEEDS]:
        lines.append(f"Preliminary, with fewer than {SEEDS} seeds: {', '.join(few)}.")
    return " ".join(lines) + "\n" + curve_sentence(ranks, luck)


def said(row: Row) -> str:
    """A method with its numbers."""
    assert row.test is not None
    p = probability(row.p_chance)
    return f"{row.name} ({row.test.mean:.2f} %, n = {row.n}, p {p if p.startswith('<') else f'= {p}'})"


def gap(row: Row) -> str:
    """A method with its difference to random search."""
    return f"{row.name} {row.difference:+.2f}{between(row.difference_interval, sign=True)} (n = {row.paired_n})"


def curve_sentence(ranks: Sequence[Rank], luck: Chance) -> str:
    """First and last tau of every curve, with renewed batch norm and without."""
    if not ranks:
        return "How tau comes about over the epochs: not run.\n"
    parts = []
    for scale in dict.fromkeys(r.scale for r in ranks):
        words = []
        for renewed in (True, False):
            mine = [r for r in ranks if r.scale == scale and r.renewed == renewed]
            first, last = mine[0], mine[-1]
            words.append(
                f"{'renewed' if renewed else 'as trained'} {number(first.tau)} after {first.epoch} epochs, "
                f"{number(last.tau)}{between((last.low, last.high))} after {last.epoch} "
                f"(cells {last.mean_percent:.1f} % on average)"
            )
        parts.append(f"{scale}: {', '.join(words)}")
    cells = max(r.cells for r in ranks)
    text = f"Tau of a RandomNAS supernet over {cells} fixed uniform cells, batch norm {'; '.join(parts)}."
    if not math.isnan(luck.tau_12):
        text += f" For comparison, 12 epochs of training every cell alone (tables): {luck.tau_12:.2f}."
    return text + "\n"
