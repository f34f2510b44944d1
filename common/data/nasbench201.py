"""NAS-Bench-201: the cell's three notations, the tables of trained accuracies, and the benchmark's index splits.

An operation list has one operation number per edge in the order 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2 (node 0 is the
cell's input, node 3 its output); the architecture string groups the same order by node:
``|a~0|+|b~0|c~1|+|d~0|e~1|f~2|``.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from common.data.pins import EMBEDDED_SHA256, embedded_file, verified_path
from common.errors import UserError
from common.run import seeds

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
CELLS = len(OPERATIONS) ** len(EDGES)
DATASETS = ("cifar10", "cifar100", "imagenet16-120")
SPLIT_SIZES = {"cifar10": 50_000, "cifar100-test": 10_000, "imagenet16-120-test": 6_000}
_SPLIT_ARRAYS = {
    "cifar10": "cifar_split",
    "cifar100-test": "cifar100_test_split",
    "imagenet16-120-test": "imagenet_16_120_test_split",
}
_STRING = re.compile(r"\|#~0\|\+\|#~0\|#~1\|\+\|#~0\|#~1\|#~2\|".replace("#", "([a-z0-9_]+)"))


def to_string(operations: Sequence[int]) -> str:
    """The architecture string of six operation numbers."""
    if len(operations) != len(EDGES) or not all(0 <= int(op) < len(OPERATIONS) for op in operations):
        raise UserError(f"{list(operations)} is no NAS-Bench-201 cell: six numbers from 0 to 4 are expected")
    a, b, c, d, e, f = (OPERATIONS[int(op)] for op in operations)
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def to_operations(text: str) -> tuple[int, ...]:
    """The six operation numbers of an architecture string. Raises UserError for any other text."""
    match = _STRING.fullmatch(text.strip())
    if match is None or any(name not in OPERATIONS for name in match.groups()):
        raise UserError(
            f"{text!r} is no NAS-Bench-201 architecture string; expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2| with "
            f"{', '.join(OPERATIONS)}"
        )
    return tuple(OPERATIONS.index(name) for name in match.groups())


def drawn_edges(text: str) -> list[tuple[str, str, str | None]]:
    """A cell as edges (from, to, operation) for drawing, nodes 0 to 3; ``none`` edges do not exist.

    Raises UserError for text that is no architecture string.
    """
    return [(str(i), str(j), OPERATIONS[op]) for (j, i), op in zip(EDGES, to_operations(text)) if op]


def code(operations: Sequence[int]) -> int:
    """The operation numbers read as a base-5 number, first edge most significant: a dense key from 0 to 15,624."""
    value = 0
    for op in operations:
        value = value * len(OPERATIONS) + int(op)
    return value


@dataclass(frozen=True)
class Entry:
    """What the benchmark says of one cell on one data set; accuracies in percent, NaN where the tables lack one."""

    index: int
    string: str
    test: float
    valid: float
    test_12: float
    valid_12: float
    parameters_m: float


class Table:
    """Accuracies of all 15,625 cells. Open it with ``Table.open(options)``; row i is the benchmark's architecture
    index i.
    """

    def __init__(self, arrays: dict[str, np.ndarray], pinned: bool = True, pins: dict[str, str] | None = None) -> None:
        self.operations = arrays["ops"].astype(np.int64)
        if self.operations.shape != (CELLS, len(EDGES)):
            raise UserError(f"NAS-Bench-201 tables: ops is {self.operations.shape}, expected {(CELLS, len(EDGES))}")
        self._arrays = arrays
        self._row = np.full(CELLS, -1, dtype=np.int64)
        weights = len(OPERATIONS) ** np.arange(len(EDGES) - 1, -1, -1)
        self._row[self.operations @ weights] = np.arange(CELLS)
        if (self._row < 0).any():
            raise UserError("NAS-Bench-201 tables: cells are missing or repeated")
        self.pinned, self.pins = pinned, pins or {}

    @classmethod
    def open(cls, options: Any = None) -> Table:
        """Read ``nasbench201/nasbench201_tables.npz`` under the data root. Raises UserError when absent or altered."""
        checked = verified_path("nasbench201", "nasbench201_tables.npz", options)
        try:
            with np.load(checked.path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{checked.path} is no readable table: {' '.join(str(error).split())}") from None
        if "ops" not in arrays:
            raise UserError(f"{checked.path} has no array 'ops'")
        return cls(arrays, checked.pinned, {f"nasbench201/{checked.path.name}": checked.digest})

    def index(self, architecture: str | int | Sequence[int]) -> int:
        """Architecture index of a string, an operation list or an index."""
        if isinstance(architecture, str):
            architecture = to_operations(architecture)
        if isinstance(architecture, (int, np.integer)):
            if not 0 <= int(architecture) < CELLS:
                raise UserError(f"NAS-Bench-201 index {architecture} is not between 0 and {CELLS - 1}")
            return int(architecture)
        to_string(architecture)  # checks it
        return int(self._row[code(architecture)])

    def string(self, architecture: str | int | Sequence[int]) -> str:
        """Architecture string of any notation."""
        return to_string(self.operations[self.index(architecture)])

    def column(self, dataset: str, part: str = "test", epochs: int = 200) -> np.ndarray:
        """Accuracies [15625] in percent: ``part`` test or valid, after 200 or 12 epochs of training.

        CIFAR-10 test: trained on all 50,000 images; valid: trained on one half, validated on the other. CIFAR-100 and
        ImageNet16-120: the two halves of the original test or validation set.
        """
        if dataset not in DATASETS:
            raise UserError(f"NAS-Bench-201 has no data set {dataset!r}; use {', '.join(DATASETS)}")
        if part not in ("test", "valid") or epochs not in (12, 200):
            raise UserError(f"the tables have test and valid after 12 and 200 epochs, not {part} after {epochs}")
        name = f"{dataset.replace('-', '_')}_{part}_{epochs}"
        if name not in self._arrays:
            raise UserError(f"these NAS-Bench-201 tables lack {name}; use the full tables")
        return self._arrays[name].astype(np.float64)

    def lookup(
        self, architecture: str | int | Sequence[int], dataset: str, part: str = "test", epochs: int = 200
    ) -> float:
        """Accuracy in percent of one cell."""
        return float(self.column(dataset, part, epochs)[self.index(architecture)])

    def entry(self, architecture: str | int | Sequence[int], dataset: str) -> Entry:
        """All that the tables say of one cell on one data set."""
        row = self.index(architecture)

        def value(part: str, epochs: int) -> float:
            try:
                return float(self.column(dataset, part, epochs)[row])
            except UserError:
                if dataset not in DATASETS:
                    raise
                return float("nan")

        size = self._arrays.get(f"{dataset.replace('-', '_')}_params_m")
        return Entry(
            row,
            self.string(row),
            value("test", 200),
            value("valid", 200),
            value("test", 12),
            value("valid", 12),
            float(size[row]) if size is not None else float("nan"),
        )

    def optimum(self, dataset: str, part: str = "test", epochs: int = 200) -> tuple[int, float]:
        """(architecture index, accuracy) of the best cell."""
        column = self.column(dataset, part, epochs)
        row = int(np.nanargmax(column))
        return row, float(column[row])

    def rank(self, architecture: str | int | Sequence[int], dataset: str, part: str = "test", epochs: int = 200) -> int:
        """1 for the best cell; equal accuracies share the better rank."""
        column = self.column(dataset, part, epochs)
        return 1 + int((column > column[self.index(architecture)]).sum())

    def ranks(self, dataset: str, part: str = "test", epochs: int = 200) -> np.ndarray:
        """Ranks [15625] of all cells, 1 the best; equal accuracies share the better rank."""
        column = self.column(dataset, part, epochs)
        ordered = np.sort(column)
        return 1 + len(column) - np.searchsorted(ordered, column, side="right")


def looked_up(dataset: str) -> str:
    """The data set of the tables on which a cell found on ``dataset`` is looked up: CIFAR-10 where they lack it."""
    return dataset if dataset in DATASETS else "cifar10"


def release_1_0(options: Any = None) -> dict[str, float]:
    """Six digits (one an edge) -> CIFAR-10 test accuracy in percent of the benchmark's first release, v1.0: 200 epochs
    on all training images, mean over the trials.

    The tables of ``Table`` hold v1.1, where some cells have other trials and so other means. Raises UserError when the
    file (set ``nasbench201-v1.0``) is absent, altered or unreadable.
    """
    checked = verified_path("nasbench201-v1.0", "cifar10_test_200ep.csv.gz", options)
    try:
        with gzip.open(checked.path, "rt", encoding="ascii", newline="") as lines:
            found = {row["code"]: float(row["cifar10_test_top1"]) for row in csv.DictReader(lines)}
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{checked.path} is no readable table: {type(error).__name__} {error}") from None
    if len(found) != CELLS:
        raise UserError(f"{checked.path} has {len(found)} cells, expected {CELLS}")
    return found


def official_halves(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The benchmark's two index halves of ``cifar10`` (train, valid), ``cifar100-test`` or ``imagenet16-120-test``."""
    if name not in SPLIT_SIZES:
        raise UserError(f"NAS-Bench-201 has no split {name!r}; use {', '.join(SPLIT_SIZES)}")
    with np.load(io.BytesIO(embedded_file("nasbench201_splits.npz")), allow_pickle=False) as archive:
        first = np.unpackbits(archive[_SPLIT_ARRAYS[name]])[: SPLIT_SIZES[name]].astype(bool)
    return np.flatnonzero(first), np.flatnonzero(~first)


def split_pins() -> dict[str, str]:
    """The pin of the embedded split file, to be written into results."""
    return {"embedded/nasbench201_splits.npz": "sha256:" + EMBEDDED_SHA256["nasbench201_splits.npz"]}


def halves(name: str, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, str]:
    """Two disjoint halves of ``count`` images, and where they come from.

    name: data set and part, e.g. ``cifar10`` (its training set) or ``cifar100-test``. With the official number of
    images the benchmark's own halves are returned and marked ``official``; for any other set random halves, a
    function of the seed, marked ``fallback``.
    """
    if SPLIT_SIZES.get(name) == count:
        return *official_halves(name), "official"
    order = torch.randperm(count, generator=seeds.generator(seed, "halves", name)).numpy()
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :]), "fallback"
