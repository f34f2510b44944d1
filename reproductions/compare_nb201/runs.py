"""What the runs of the comparison wrote: the cell that a search chose, and the scores that it chose by.

Truth is the NAS-Bench-201 tables: test accuracy after 200 epochs of training alone, mean over the trials.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.data.nasbench201 import DATASETS, EDGES, OPERATIONS, Table
from common.errors import UserError
from papers.nsas.studies.forgetting import ranked_cells
from reproductions.results import Result, read

SEARCHES, STUDY, CURVE = "search", "study", "curve"  # folders of the pipeline below results/compare_nb201
ON = DATASETS[0]  # the data set that everything searches on
FIXED = 200  # cells that every curve and the study rank, the same for all
END = 0.2  # share of EvNAS's generations, the last ones, whose individuals tell how good its order of cells is


@dataclass(frozen=True)
class Method:
    """A search of the comparison; ``key`` is its folder without the seed."""

    key: str
    name: str
    rule: str  # how a cell is scored
    own: dict[str, Any] = field(default_factory=dict)  # settings in which it differs from the protocol


MIXTURE = "accuracy as a mixture; batch norm as trained"
PATH = "accuracy as a path; batch norm renewed"
TRAINED = "accuracy as a path; batch norm as trained"
ALPHAS = "nothing; its alphas choose"
METHODS = (
    Method("evnas-authors", "EvNAS", MIXTURE),
    Method("evnas-random-search", "EvNAS's random search", MIXTURE),
    Method("randomnas-none", "RandomNAS", PATH),
    Method("randomnas-trained", "RandomNAS, not renewed", TRAINED, {"recalibrate_batches": 0}),
    Method("randomnas-authors", "RandomNAS-NSAS, authors' cells", PATH),
    Method("randomnas-paper", "RandomNAS-NSAS, paper's cells", PATH),
    Method("gdas-authors", "GDAS-NSAS as released", ALPHAS),
    Method("gdas-paper", "GDAS-NSAS as written", ALPHAS),
)
BASELINE = "evnas-random-search"


@dataclass(frozen=True)
class Outcome:
    """One search: its cell with the truth of it, and the scores it had (cells, scores), where it has any."""

    method: str
    seed: int
    cell: str
    test: dict[str, float]  # data set -> test accuracy in percent
    rank: int  # of 15,625 on CIFAR-10, 1 the best
    regret: float  # points below the best cell
    scored: tuple[list[int], list[float]]  # table rows of the scored cells, their scores
    cpu_seconds: float | None


def outcomes(folder: Path, table: Table, costs: dict[str, float], protocol: dict[str, Any]) -> list[Outcome]:
    """All finished searches below ``folder``/search. costs: run -> core-seconds. Raises UserError for a run whose
    settings are not the protocol's.
    """
    found = []
    for method in METHODS:
        for path in sorted((folder / SEARCHES).glob(f"{method.key}-*/result.json")):
            if path.parent.name.removeprefix(f"{method.key}-").isdigit():
                result = read(path)
                check(result, protocol, method.own)
                found.append(outcome(method, result, table, costs.get(f"{SEARCHES}/{path.parent.name}")))
    return sorted(found, key=lambda o: ([m.key for m in METHODS].index(o.method), o.seed))


def check(result: Result, protocol: dict[str, Any], own: dict[str, Any]) -> None:
    """Raises UserError, naming the first setting that differs from what the protocol, or ``own``, says of the stage."""
    for name, value in {**protocol.get(result.paper, {}).get(result.stage, {}), **own}.items():
        if result.settings.get(name) != value:
            raise UserError(
                f"{result.path.parent} was run with {name} = {result.settings.get(name)!r}, not {value!r} as the "
                f"protocol says; give each scale a folder and a --protocol of its own"
            )


def outcome(method: Method, result: Result, table: Table, cpu_seconds: float | None) -> Outcome:
    """One finished search."""
    cell = result.raw.get("architecture")
    if not isinstance(cell, str):
        raise UserError(f"{result.path}: its architecture is no cell of NAS-Bench-201; run that stage again")
    test = {name: table.lookup(cell, name) for name in DATASETS}
    return Outcome(
        method=method.key, seed=result.seed, cell=cell, test=test, rank=table.rank(cell, ON),
        regret=table.optimum(ON)[1] - test[ON], scored=scored(result.path.parent, table), cpu_seconds=cpu_seconds,
    )  # fmt: skip


def scored(folder: Path, table: Table) -> tuple[list[int], list[float]]:
    """(table rows, scores) of the cells that a search scored with its final weights, each once.

    RandomNAS: its candidates. EvNAS: the individuals of the last fifth of its generations, whose learning rate is
    nearly nought; of a cell that was scored more than once the mean. GDAS scores none: the study's 200 fixed cells have
    the log-probability that its alphas give them. Nothing where the file is absent.
    """
    if (path := folder / "candidates.csv").exists():
        cells, scores = columns(path, cell=table_row(table), supernet_accuracy_percent=float)
        return _once(cells, scores)
    if (path := folder / "individuals.csv").exists():
        generations, cells, scores = columns(path, generation=int, cell=table_row(table), top1=float)
        count = 1 + max(generations)
        last = [k for k, g in enumerate(generations) if g >= count - max(1, math.ceil(END * count))]
        return _once([cells[k] for k in last], [scores[k] for k in last])
    if (path := folder / "alphas.csv").exists():
        alphas = np.array(columns(path, **dict.fromkeys(OPERATIONS, float))).T
        cells = _once([table.index(code) for code in ranked_cells(FIXED)], [0.0] * FIXED)[0]
        return cells, [float(p) for p in log_probability(alphas, table.operations[cells])]
    return [], []


def log_probability(alphas: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """log p(cell) = sum over edges of log softmax(alpha)[edge, operation]; alphas [6, 5], cells [N, 6] -> [N]."""
    shifted = alphas - alphas.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return log_p[np.arange(len(EDGES)), cells].sum(1)


@dataclass(frozen=True)
class Point:
    """The order of the fixed cells at an epoch of a supernet."""

    scale: str
    epoch: int  # epochs done
    renewed: bool
    cells: list[int]  # table rows
    scores: list[float]


def points(folder: Path, table: Table) -> list[Point]:
    """All curves below ``folder``/curve, by scale and epoch, with renewed batch norm and without."""
    found = []
    for path in sorted((folder / CURVE).glob("*/ranks.csv")):
        epochs, cells, *scores = columns(
            path, epoch=int, cell=table_row(table), renewed_percent=float, as_trained_percent=float
        )
        for epoch in sorted(set(epochs)):
            mine = [k for k, other in enumerate(epochs) if other == epoch]
            for renewed, values in zip((True, False), scores, strict=True):
                chosen = [cells[k] for k in mine], [values[k] for k in mine]
                found.append(Point(path.parent.name, epoch + 1, renewed, *chosen))
    return found


def _once(cells: Sequence[int], scores: Sequence[float]) -> tuple[list[int], list[float]]:
    """Every cell once, in the order of first appearance, with the mean of its scores."""
    of: dict[int, list[float]] = {}
    for cell, value in zip(cells, scores, strict=True):
        of.setdefault(cell, []).append(value)
    return list(of), [sum(values) / len(values) for values in of.values()]


def table_row(table: Table) -> Callable[[str], int]:
    """What makes a cell in words, as an architecture string or as "c" and six digits, its row in the table."""
    return lambda text: table.index(tuple(map(int, text[1:])) if text.startswith("c") else text)


def columns(path: Path, **kinds: Callable[[str], Any]) -> list[list[Any]]:
    """Columns of a CSV file, each made of its texts by its kind. Raises UserError, naming the file, where it has not
    what a run writes.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        found = [[kind(row[name]) for row in rows] for name, kind in kinds.items()]
    except (OSError, KeyError, TypeError, ValueError, csv.Error, UserError) as error:
        raise UserError(f"{path}: not what a run writes ({error}); run that stage again") from None
    if not rows:
        raise UserError(f"{path} is empty; run that stage again")
    return found
