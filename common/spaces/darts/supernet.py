"""The one-shot network of the DARTS space: every edge holds all eight operations.

Two ways to run it: a weighted mixture of all operations, and a hard path that runs only selected ones. Work that
repeats is done once, exactly: all edges leaving a state share its ReLU, its pools and their (affine-free) batch norm.
The running statistics of every edge's own norm are kept all the same, so a state dict reads as the original's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.spaces.darts import norm
from common.spaces.darts.genotype import CELL_EDGES, NODES, PRIMITIVES
from common.spaces.darts.network import preprocess, reductions
from common.spaces.darts.operations import OPS, StartsWithReLU

NONE, MAX_POOL, AVG_POOL, SKIP = range(4)
Mixture = Tensor | Sequence[Sequence[float]]
Selection = Sequence[Collection[int]]  # per edge, the operations that run


class MixedOp(nn.Module):
    """The eight operations of one edge; both pools are followed by a batch norm here."""

    def __init__(self, c: int, stride: int) -> None:
        super().__init__()
        self._ops = nn.ModuleList()
        for name in PRIMITIVES:
            op = OPS[name](c, stride, False)
            self._ops.append(nn.Sequential(op, nn.BatchNorm2d(c, affine=False)) if "pool" in name else op)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """sum_p w_p op_p(x) in the plain form, nothing shared (the reference for tests)."""
        return sum(w * op(x) for w, op in zip(weights, self._ops))  # type: ignore[return-value]


class SearchCell(nn.Module):
    """Two inputs -> [B, 4 c, H', W']; 14 mixed edges numbered row by row."""

    def __init__(self, c_before: int, c_last: int, c: int, reduction: bool, after_reduction: bool) -> None:
        super().__init__()
        self.reduction = reduction
        self.preprocess0, self.preprocess1 = preprocess(c_before, c_last, c, after_reduction, affine=False)
        self._ops = nn.ModuleList(MixedOp(c, 2 if reduction and state < 2 else 1) for _, state in CELL_EDGES)
        self.mixed: list[Any] = list(self._ops)
        self.leaving = [[e for e, (_, s) in enumerate(CELL_EDGES) if s == state] for state in range(NODES + 1)]

    def plain(self, before: Tensor, last: Tensor, weights: Tensor) -> Tensor:
        """The mixture with nothing shared (the reference for tests)."""
        states = [self.preprocess0(before), self.preprocess1(last)]
        for node in range(NODES):
            edges = [e for e, (n, _) in enumerate(CELL_EDGES) if n == node]
            states.append(sum(self.mixed[e](states[CELL_EDGES[e][1]], weights[e]) for e in edges))
        return torch.cat(states[2:], dim=1)

    def forward(self, before: Tensor, last: Tensor, weights: Mixture) -> Tensor:
        """node_i = sum over states j < i + 2 and operations p of w[edge, p] op_p(state_j).

        Each state is handled once: what it sends to all later nodes is added to their sums as it is finished.
        """
        states = [self.preprocess0(before), self.preprocess1(last)]
        sums: list[Tensor | None] = [None] * NODES
        for state in range(NODES + 1):
            x = states[state]
            rest = functional.relu(x)
            edges = self.leaving[state]
            pooled = {p: self._pool(state, p, x) for p in (MAX_POOL, AVG_POOL)}
            for e in edges:
                node, ops, row = CELL_EDGES[e][0], self.mixed[e]._ops, weights[e]
                for p in range(1, len(PRIMITIVES)):
                    if p in pooled:
                        out = pooled[p][edges.index(e)]
                    elif p == SKIP:
                        out = ops[p].after_relu(rest) if isinstance(ops[p], StartsWithReLU) else x
                    else:
                        out = ops[p].after_relu(rest)
                    sums[node] = add_weighted(sums[node], out, row[p])
            if state >= 1:  # node ``state - 1`` has all its inputs now: it is the next state
                states.append(sums[state - 1])  # type: ignore[arg-type]
        return torch.cat(states[2:], dim=1)

    def _pool(self, state: int, p: int, x: Tensor) -> list[Tensor]:
        """Pool p of a state behind the norm of each edge that leaves it; one tensor for all in train mode."""
        branches = [self.mixed[e]._ops[p] for e in self.leaving[state]]
        pooled = branches[0][0](x)
        norms = [branch[1] for branch in branches]
        if not self.training or any(n.momentum is None for n in norms):
            return [norm(pooled) for norm in norms]  # running statistics may differ between edges
        return [shared_norm(norms, pooled)] * len(norms)

    def path(self, before: Tensor, last: Tensor, chosen: Selection, update_unselected: bool = False) -> Tensor:
        """Only the chosen operations of each edge, weight 1 each, repeated ones once.

        update_unselected: the other operations run too, without a graph, so that their running statistics move as in
        dense execution.
        """
        states = [self.preprocess0(before), self.preprocess1(last)]
        for node in range(NODES):
            total: Tensor | None = None
            for e, (n, state) in enumerate(CELL_EDGES):
                if n != node:
                    continue
                ops = self.mixed[e]._ops
                picked = set(chosen[e]) - {NONE}
                if update_unselected and self.training:
                    with torch.no_grad():
                        for p in range(1, len(PRIMITIVES)):
                            if p not in picked:
                                ops[p](states[state])
                for p in sorted(picked):
                    out = ops[p](states[state])
                    total = out if total is None else total + out
            if total is None:  # nothing leads here: zeros of the right size
                total = OPS["none"](0, 2 if self.reduction else 1, False)(states[0])
            states.append(total)
        return torch.cat(states[2:], dim=1)


def shared_norm(norms: Sequence[nn.BatchNorm2d], x: Tensor) -> Tensor:
    """Affine-free train-mode batch norm of ``x``, done once for several norms that see the same input.

    Each norm's running values move by r <- (1 - m) r + m batch value. Sharp norms (``norm.sharpen``) share a sharp one.
    """
    first = norms[0]
    tracked, sharp = first.running_mean is not None and first.track_running_stats, norm.sums_sharply(first, x)
    if sharp:
        out, mean, var = norm.normalised(x, first.eps)
    elif first.running_mean is not None and tracked:
        mean, var = torch.zeros_like(first.running_mean), torch.zeros_like(first.running_mean)
        out = functional.batch_norm(x, mean, var, None, None, True, 1.0, first.eps)  # momentum 1: the batch's values
    else:
        out = functional.batch_norm(x, None, None, None, None, True, 0.0, first.eps)
    if not tracked:
        return out
    with torch.no_grad():
        momentum: Any = first.momentum
        running: list[Any] = [b for n in norms for b in (n.running_mean, n.running_var)]
        counters: list[Any] = [n.num_batches_tracked for n in norms]
        torch._foreach_mul_(running, 1 - momentum)
        torch._foreach_add_(running, [mean, var] * len(norms), alpha=momentum)
        torch._foreach_add_(counters, 1)
    return out


def add_weighted(total: Tensor | None, out: Tensor, weight: float | Tensor) -> Tensor:
    """total + weight * out (``total`` None: nothing yet)."""
    if total is None:
        return out * weight
    return total + out * weight if isinstance(weight, Tensor) else torch.add(total, out, alpha=weight)


def plain_numbers(table: Mixture) -> Mixture:
    """A table that needs no gradient as Python numbers: no small tensors, no synchronisation per operation."""
    return table.tolist() if isinstance(table, Tensor) and not table.requires_grad else table


class Supernet(nn.Module):
    """Search network: C = 16 and 8 cells have 1,930,618 parameters. Inputs are multiples of 4 in size."""

    def __init__(self, c: int = 16, classes: int = 10, layers: int = 8, stem_multiplier: int = 3) -> None:
        super().__init__()
        width = stem_multiplier * c
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        before, last, after = width, width, False
        self.cells = nn.ModuleList()
        for i in range(layers):
            reduction = i in reductions(layers)
            c *= 2 if reduction else 1
            self.cells.append(SearchCell(before, last, c, reduction, after))
            before, last, after = last, NODES * c, reduction
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, weights: tuple[Mixture, Mixture]) -> Tensor:
        """Mixture: x [B, 3, H, W], weights (normal [14, 8], reduce [14, 8]) -> logits [B, classes]."""
        normal, reduce = plain_numbers(weights[0]), plain_numbers(weights[1])
        return self._run(x, lambda cell, s0, s1: cell(s0, s1, reduce if cell.reduction else normal))

    def forward_plain(self, x: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        """The mixture as the papers write it, nothing shared (the reference for tests)."""
        return self._run(x, lambda cell, s0, s1: cell.plain(s0, s1, weights[1] if cell.reduction else weights[0]))

    def forward_path(self, x: Tensor, normal: Selection, reduce: Selection, update_unselected: bool = False) -> Tensor:
        """Hard path: per edge (14) a collection of operation numbers that run with weight 1."""
        return self._run(
            x, lambda cell, s0, s1: cell.path(s0, s1, reduce if cell.reduction else normal, update_unselected)
        )

    def _run(self, x: Tensor, step: Callable[[Any, Tensor, Tensor], Tensor]) -> Tensor:
        before = last = self.stem(x.contiguous(memory_format=torch.channels_last))
        for cell in self.cells:
            before, last = last, step(cell, before, last)
        return self.classifier(self.global_pooling(last).flatten(1))
