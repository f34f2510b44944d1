"""``python -m reproductions compare nb201``: the searches compared where the truth is known.

Reads the runs of reproductions/compare_nb201/dvc.yaml that are there (others are "not run") and the tables of
NAS-Bench-201 under the data root. ``--write`` puts outcomes.csv, methods.csv, curve.csv, costs.csv, figure.svg and
paragraph.txt beside the runs, and figure, table and paragraphs into reproductions/compare_nb201/README.md.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.data.nasbench201 import DATASETS, Table, official_halves
from common.errors import UserError
from common.outside import load_yaml
from common.run.files import read_json, write_bytes, write_text
from papers.nsas.studies import summary as study
from reproductions.arguments import OneLineParser
from reproductions.claims import ROOT
from reproductions.compare_nb201.figure import figure
from reproductions.compare_nb201.judgement import Chance, Rank, Row, chance, curve, judge, tau_of
from reproductions.compare_nb201.runs import ON, STUDY, Outcome, columns, outcomes, points
from reproductions.compare_nb201.words import Scale, paragraph, table
from reproductions.results import RESULTS

FOLDER = RESULTS / "compare_nb201"
HOME = ROOT / "reproductions" / "compare_nb201"
START, END = "<!-- comparison:start -->", "<!-- comparison:end -->"


@dataclass(frozen=True)
class Comparison:
    """All that is said, computed once."""

    found: list[Outcome]
    rows: list[Row]
    ranks: list[Rank]
    luck: Chance
    best: float
    scale: Scale
    costs: dict[str, float]
    study: str  # the constraint study in words
    truth: Table


def main(argv: list[str]) -> int:
    parser = OneLineParser(
        prog="python -m reproductions compare nb201", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the runs")
    parser.add_argument(
        "--protocol", type=Path, default=HOME / "protocol.yaml", help="settings that every run must have"
    )
    parser.add_argument("--data", type=Path, default=None, help="data root")
    parser.add_argument("--write", action="store_true", help="write tables, figure and README")
    args = parser.parse_args(argv)
    if args.results != FOLDER and not args.results.is_dir():
        raise UserError(f"no folder {args.results}; give --results the folder of the runs")
    said = compare(args.results, Table.open(args), args.protocol)
    print(table(said.rows, said.luck))
    print("\n" + words(said))
    if args.write:
        write(args.results, said)
        if args.results.resolve() == FOLDER.resolve():
            write_text(HOME / "README.md", page((HOME / "README.md").read_text(encoding="utf-8"), said))
    return 0


def compare(folder: Path, truth: Table, protocol: Path = HOME / "protocol.yaml") -> Comparison:
    """Everything that the runs below ``folder`` say. Raises UserError for runs of another protocol."""
    settings, costs = load_yaml(protocol), core_seconds(folder)
    found, scale = outcomes(folder, truth, costs, settings), scale_of(settings)
    luck = chance(truth, scale.scored)
    ranks = curve(points(folder, truth), truth)
    return Comparison(
        found, judge(found, truth), ranks, luck, truth.optimum(ON)[1], scale, costs, study_of(folder / STUDY), truth
    )


def scale_of(protocol: dict[str, Any]) -> Scale:
    """What the protocol gives every search."""
    try:
        evnas = protocol["evnas"]["search_nb201"]
        sizes = [evnas[name] for name in ("channels", "cells_per_stage", "train_images", "generations", "population")]
        channels, cells, images, generations, population = map(int, sizes)
        return Scale(
            evnas["dataset"], channels, cells, images or len(official_halves(ON)[0]), generations,
            generations * population, int(evnas["fitness_images"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the protocol does not say evnas.search_nb201 whole ({error}); see {HOME / 'protocol.yaml'}"
        ) from None


def core_seconds(folder: Path) -> dict[str, float]:
    """Run -> seconds that it had a core: of timing.json where it lies, else of costs.csv, which is committed."""
    costs = {}
    if (path := folder / "costs.csv").exists():
        costs = dict(zip(*columns(path, run=str, cpu_seconds=float), strict=True))
    for path in sorted(folder.glob("*/*/timing.json")):
        timing = read_json(path)
        if not isinstance(timing, dict) or not isinstance(timing.get("cpu_seconds", 0.0), int | float):
            raise UserError(f"{path}: not what a run writes; run that stage again")
        if "cpu_seconds" in timing and path.with_name("result.json").exists():
            costs[path.parent.relative_to(folder).as_posix()] = float(timing["cpu_seconds"])
    return dict(sorted(costs.items()))


def study_of(folder: Path) -> str:
    """The constraint study in words."""
    if not any(folder.rglob("result.json")):
        return "Not run.\n"
    return study.paragraph(study.collect(folder))


def words(said: Comparison) -> str:
    """The paragraphs."""
    first = paragraph(said.rows, said.luck, said.ranks, said.scale)
    return f"{first}\nDoes the constraint matter? {said.study}"


def write(folder: Path, said: Comparison) -> None:
    """The CSV files, the figure, the paragraphs."""
    write_text(folder / "outcomes.csv", as_csv([of_outcome(o, said.truth) for o in said.found]))
    write_text(folder / "methods.csv", as_csv([of_row(row) for row in said.rows]))
    write_text(folder / "curve.csv", as_csv([vars(rank) for rank in said.ranks]))
    write_text(folder / "costs.csv", as_csv([{"run": r, "cpu_seconds": s} for r, s in said.costs.items()]))
    write_text(folder / "paragraph.txt", words(said))
    write_bytes(folder / "figure.svg", figure(said.rows, said.found, said.luck, said.best, said.ranks))


def of_outcome(o: Outcome, truth: Table) -> dict[str, Any]:
    """A row of outcomes.csv."""
    tau, (low, high) = tau_of(*o.scored, truth)
    tests = {f"{name.replace('-', '_')}_test_percent": value for name, value in o.test.items()}
    return {
        "method": o.method, "seed": o.seed, "cell": o.cell, **tests, "regret_points": o.regret, "rank": o.rank,
        "tau": tau, "tau_low": low, "tau_high": high, "scored_cells": len(o.scored[0]),
    }  # fmt: skip


def of_row(row: Row) -> dict[str, Any]:
    """A row of methods.csv; empty where it was not run."""
    elsewhere = row.elsewhere or {}
    return {
        "method": row.key, "seeds": row.n, "test_percent": row.test.mean if row.test else math.nan,
        "regret_points": row.regret, "mean_rank": sum(row.ranks) / len(row.ranks) if row.ranks else math.nan,
        **{f"{name.replace('-', '_')}_test_percent": elsewhere.get(name, math.nan) for name in DATASETS if name != ON},
        "tau": row.tau, "tau_low": row.tau_interval[0], "tau_high": row.tau_interval[1], "p_chance": row.p_chance,
        "minus_random_search": row.difference, "minus_low": row.difference_interval[0],
        "minus_high": row.difference_interval[1], "pairs": row.paired_n,
    }  # fmt: skip


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """CSV with a header; NaN is empty. Nothing for no rows."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows
        )
    return text.getvalue()


def page(text: str, said: Comparison) -> str:
    """The README with its generated part made anew. Raises UserError where its marks are missing."""
    if START not in text or END not in text:
        raise UserError(f"{HOME / 'README.md'} lacks the marks {START} and {END}")
    before, after = text.split(START)[0], text.split(END)[1]
    first = paragraph(said.rows, said.luck, said.ranks, said.scale)
    picture = (
        "![Chosen cells of every search, Kendall's tau of its scores, and tau over the epochs of RandomNAS supernets]"
        "(../../results/compare_nb201/figure.svg)\n\n"
    )
    made = (
        f"{picture if said.found or said.ranks else ''}{table(said.rows, said.luck)}\n\n{first}\n"
        f"**Does the constraint matter?** {said.study}"
    )
    return f"{before}{START}\n{made}{END}{after}"
