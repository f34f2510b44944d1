"""The supernet of the DARTS space on one architecture, running only the operations that are switched on (Method 1).

With the raw 0/1 table an unselected operation contributes exactly zero, so the sampled operations alone give the same
logits. What dense execution does besides is explicit here:
- unselected parameters get zero (not missing) gradients: ``common.train.optim.zero_fill_grads`` after backward;
- batch-norm statistics of unselected operations move: ``forward`` with ``statistics=True`` runs them without a graph.
Constraint forwards touch no statistics of the live network (the released code ran deep copies): ``frozen_statistics``.
Operations of the first two cells that several constraints share are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from common.run.device import exact
from papers.nsas.method.sampling import ROWS, Architecture, Cell, active, first_edge
from papers.nsas.networks.supernet import norms_of, table_logits

Logits = Callable[[nn.Module, Tensor, Architecture], Tensor]


Known = tuple[int, Tensor]  # a tensor and the number it is known by; 0: not known again
Share = Callable[[tuple, Callable[[], Tensor]], Known]


class Memo:
    """Results of (module, input) pairs for one batch; inputs are known by an integer, equal ones are equal tensors."""

    def __init__(self) -> None:
        self.values: dict[tuple, Known] = {}

    def get(self, key: tuple, compute: Callable[[], Tensor]) -> Known:
        """The result of ``key``, computed the first time."""
        if key not in self.values:
            self.values[key] = (len(self.values) + 1, compute())
        return self.values[key]


def logits_function(table: str, statistics: bool) -> Logits:
    """(model, x, architecture) -> logits [B, K], under the softmax table (all operations) or the raw one (the path).

    statistics: with the raw table also move the batch-norm statistics of operations that were not sampled.
    """
    if table == "softmax":
        return table_logits
    return lambda model, x, architecture: forward(model, x, architecture, statistics=statistics)


def chosen_operations(cell: Cell) -> list[list[int]]:
    """Operations that run, for each of the 14 edges."""
    chosen: list[list[int]] = [[] for _ in range(ROWS)]
    for node, pairs in enumerate(active(cell)):
        for state, operation in pairs:
            chosen[first_edge(node) + state].append(operation)
    return chosen


def forward(
    model: Any, x: Tensor, architecture: Architecture, statistics: bool = False, memo: Memo | None = None
) -> Tensor:
    """Logits [B, K] of one path.

    statistics: also run every unselected operation, without a graph, so that batch-norm values move as in dense
    execution. memo: share results between calls on the same ``x`` (only where nothing changes in between and no
    graph is kept).
    """
    if memo is None:
        return model.forward_path(x, *(chosen_operations(cell) for cell in architecture), update_unselected=statistics)
    stem = memo.get(("stem",), lambda: model.stem(x.contiguous(memory_format=torch.channels_last)))
    before = last = stem
    for number, cell in enumerate(model.cells):
        nodes = active(architecture[1] if cell.reduction else architecture[0])
        reuse = memo.get if number < 2 else None  # deeper inputs differ between architectures
        before, last = last, _cell(cell, number, before, last, nodes, reuse)
    return model.classifier(model.global_pooling(last[1]).flatten(1))


def _cell(
    cell: Any, number: int, before: Known, last: Known, nodes: Sequence[Sequence[tuple[int, int]]], share: Share | None
) -> Known:
    """Output of cell ``number`` on the outputs of the two cells before; ``share`` None: nothing is looked up."""

    def run(key: tuple, module: nn.Module, value: Tensor, source: int) -> Known:
        if share is None or not source:
            return 0, module(value)
        return share((*key, source), lambda: module(value))

    states = [
        run((number, "p0"), cell.preprocess0, before[1], before[0]),
        run((number, "p1"), cell.preprocess1, last[1], last[0]),
    ]
    for node, chosen in enumerate(nodes):
        outputs: list[Known] = []
        for state, k in chosen:
            edge = first_edge(node) + state
            source, value = states[state]
            outputs.append(run((number, edge, k), cell._ops[edge]._ops[k], value, source))
        states.append(_sum(outputs, (number, node), share))
    return 0, torch.cat([value for _, value in states[-4:]], dim=1)


def _sum(outputs: Sequence[Known], key: tuple, share: Share | None) -> Known:
    """The sum of a node's outputs, in order, as the supernet adds them; known where all of them are."""
    numbers, values = zip(*outputs, strict=True)
    if share is None or 0 in numbers:
        return 0, reduce(torch.add, values)
    return share((*key, *numbers), lambda: reduce(torch.add, values))


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Train-mode batch norm on batch statistics that leaves running values and counters alone."""
    norms: list[Any] = [norm for norm in norms_of(model) if norm.track_running_stats]
    for m in norms:
        m.track_running_stats = False
    try:
        yield
    finally:
        for m in norms:
            m.track_running_stats = True


@torch.no_grad()
def constraint_losses(
    model: nn.Module, x: Tensor, y: Tensor, architectures: Sequence[Architecture], dense: Logits | None = None
) -> list[Tensor]:
    """CE of each constraint architecture, [] each, in the type of exact sums: train mode, no graph, no copies,
    statistics untouched.

    dense: for the softmax table, ``dense(model, x, architecture) -> logits`` (every operation is active there).
    """
    losses = []
    with frozen_statistics(model):
        memo = Memo()
        for architecture in architectures:
            logits = dense(model, x, architecture) if dense else forward(model, x, architecture, memo=memo)
            losses.append(nn.functional.cross_entropy(logits, y).to(exact(x.device)))
    return losses
