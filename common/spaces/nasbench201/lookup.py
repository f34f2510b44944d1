"""What the benchmark's tables say of cells: accuracies, ranks and regrets on every set, in both of its releases.

Accuracies are in percent, means over the trials. CIFAR-10: ``test`` of networks trained on all 50,000 images, ``valid``
of networks trained on one half and tested on the other. CIFAR-100 and ImageNet16-120: the two halves of the set's test
images. Release 1.1 has all of it; of release 1.0 the tables hold CIFAR-10's test accuracy after 200 epochs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.data.names import exists
from common.data.nasbench201 import CELLS, DATASETS, OPERATIONS, Table, release_1_0, to_string
from common.errors import UserError
from common.spaces.nasbench201.cell import Cell201, is_cell_text
from common.spaces.nasbench201.graph import canonical, connected
from common.spaces.pasted import given
from common.spaces.use import of_given

EPOCHS, PARTS = (200, 12), ("valid", "test")
SHOWN_EQUALS = 6


def cells_of(words: Sequence[str], paper: str, published: Mapping[str, Any], options: Any) -> dict[str, Cell201]:
    """What the user gave -> its cell: a name, an index of the benchmark, a string, numbers, a file, a run's folder; a
    .txt may hold one cell a line. Six single digits, one a word, are one cell. Raises UserError.
    """
    if not words:
        raise UserError(
            "no cell given; give strings in quotes ('|op~0|+|op~0|op~1|+|op~0|op~1|op~2|'), six digits, indices, "
            "architecture files or folders of runs"
        )
    if len(words) == 6 and all(word in "01234" for word in words):
        words = ["".join(words)]
    found: dict[str, Cell201] = {}
    for word in words:
        for line in _lines(word):
            found[line] = _cell_of(line, paper, published, options)
    return found


def _lines(word: str) -> list[str]:
    """The cells of a text file that has one a line; any other word as it is."""
    path = Path(word) if word.endswith(".txt") else None
    if path is None or not path.is_file():
        return [word]
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError):
        raise UserError(f"{path} is no text file") from None
    return lines if len(lines) > 1 and all(map(is_cell_text, lines)) else [word]


def _cell_of(word: str, paper: str, published: Mapping[str, Any], options: Any) -> Cell201:
    text = word.strip()
    if re.fullmatch(r"-?\d+", text) and not re.fullmatch(r"\d{6}", text) and not exists(text):
        if not 0 <= int(text) < CELLS:
            raise UserError(f"index {text} is not between 0 and {CELLS - 1}; a cell in numbers has six digits")
        return Cell201(tuple(int(op) for op in Table.open(options).operations[int(text)]))
    found = of_given(given(text, published, paper), paper, published)
    if not isinstance(found, Cell201):
        raise UserError(f"{word[:60]!r} is no cell of NAS-Bench-201; the tables hold those alone")
    return found


def lookup(words: Sequence[str], paper: str, published: Mapping[str, Any], options: Any) -> dict[str, Any]:
    """All that the tables say of cells; ``table`` holds the lines that a person reads. Raises UserError: no cell, or
    no tables.
    """
    cells = cells_of(words, paper, published, options)
    tables = Tables(options)
    found = [{"given": word, **tables.says(one)} for word, one in cells.items()]
    lines = [line for entry in found for line in _shown(entry)]
    return {"cells": found, "data": tables.pins, **({} if tables.pinned else {"unpinned_data": True}), "table": lines}


class Tables:
    """The releases that are at hand. Raises UserError where there is none."""

    def __init__(self, options: Any) -> None:
        self.new: Table | None = None
        self.old: dict[str, float] = {}
        self.pins: dict[str, str] = {}
        missing: UserError | None = None
        try:
            self.new = Table.open(options)
            self.pins |= self.new.pins
        except UserError as error:
            missing = error
        try:
            self.old = release_1_0(options)
        except UserError:
            if missing is not None:
                raise missing from None
        self.pinned = self.new is None or self.new.pinned
        self._equal: dict[str, list[Sequence[int]]] | None = None

    def says(self, cell: Cell201) -> dict[str, Any]:
        """Of one cell: notations, graph, rows of accuracies, cells that are the same graph."""
        operations, index = cell.operations, None
        about: dict[str, Any] = {"cell": str(cell), "numbers": list(operations), "connected": connected(operations)}
        rows: list[dict[str, Any]] = []
        if self.new is not None:
            index = self.new.index(operations)
            for dataset in DATASETS:
                about.setdefault("parameters_m", {})[dataset] = _number(self.new.entry(index, dataset).parameters_m)
                rows += [row for epochs in EPOCHS if (row := self._row(index, dataset, epochs))]
        if self.old:
            values = np.array(list(self.old.values()))
            place = _place(values, self.old[cell.digits], "test")
            rows.append({"release": "1.0", "dataset": "cifar10", "epochs": 200, **place})
        return {**about, "index": index, "rows": rows, "equal_cells": self.equals(operations)}

    def _row(self, index: int, dataset: str, epochs: int) -> dict[str, Any]:
        """One set after one number of epochs; empty where these tables lack both parts."""
        assert self.new is not None
        found: dict[str, Any] = {}
        for part in PARTS:
            try:
                column = self.new.column(dataset, part, epochs)
            except UserError:
                continue
            found |= _place(column, float(column[index]), part)
        return {"release": "1.1", "dataset": dataset, "epochs": epochs, **found} if found else {}

    def equals(self, operations: Sequence[int]) -> list[dict[str, Any]]:
        """The other cells that are the same graph, as the benchmark counts graphs (6,466 of the 15,625 differ)."""
        if self._equal is None:
            self._equal = {}
            for code in np.ndindex(*(len(OPERATIONS),) * 6):
                self._equal.setdefault(canonical(code), []).append(code)
        others = [code for code in self._equal[canonical(operations)] if tuple(code) != tuple(operations)]
        return [
            {"cell": to_string(code), "index": None if self.new is None else self.new.index(code)} for code in others
        ]


def _place(column: np.ndarray, value: float, part: str) -> dict[str, Any]:
    """Accuracy, rank (1 the best, equals share it) and regret (points below the best cell) in a column."""
    return {
        f"{part}_accuracy_percent": _number(value), f"{part}_rank": 1 + int((column > value).sum()),
        f"{part}_regret_points": _number(float(np.nanmax(column)) - value),
    }  # fmt: skip


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def _shown(entry: Mapping[str, Any]) -> Iterable[str]:
    """The lines of one cell."""
    index = "" if entry["index"] is None else f"   index {entry['index']}"
    yield f"{entry['cell']}   {''.join(map(str, entry['numbers']))}{index}"
    if not entry["connected"]:
        yield "  no path leads from its input to its output: its logits do not see the image"
    heads = "".join(f"{part:>9}{'rank':>7}{'regret':>8}" for part in PARTS)
    yield f"  {'release':<8}{'set':<16}{'epochs':>6}{heads}"
    for row in entry["rows"]:
        yield f"  {row['release']:<8}{row['dataset']:<16}{row['epochs']:>6}" + "".join(_part(row, p) for p in PARTS)
    equals = entry["equal_cells"]
    if equals:
        names = [one["cell"] if one["index"] is None else str(one["index"]) for one in equals[:SHOWN_EQUALS]]
        listed = ", ".join(names) + (", …" if len(equals) > SHOWN_EQUALS else "")
        several = "s" * (len(equals) > 1)
        yield f"  as the benchmark counts graphs, the same as {len(equals)} other cell{several}: {listed}"
    yield ""


def _part(row: Mapping[str, Any], part: str) -> str:
    value = row.get(f"{part}_accuracy_percent")
    if value is None:
        return f"{'-':>9}{'-':>7}{'-':>8}"
    return f"{value:>9.2f}{row[f'{part}_rank']:>7}{row[f'{part}_regret_points']:>8.2f}"
