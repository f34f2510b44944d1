"""Teacher selection, the meta value and the meta update.

A process holds one or more shares of the whole batch, each of which is one GPU's batch of the original (batch
normalisation sees one share at a time). Scores, gradients and losses are averaged over all shares, and whatever is
decided is decided on these averages, so all processes decide alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from common.cli.errors import UserError
from common.train.losses import label_smoothing_cross_entropy, soft_target_cross_entropy
from papers.cream.method.board import Board, Entry
from papers.cream.method.double_backward import meta_only, recording
from papers.cream.method.path_sgd import PathSGD
from papers.cream.method.statistics import ShareStatistics
from papers.cream.network.architectures import Path
from papers.cream.network.networks import Supernet

Reduce = Callable[[list[Tensor]], None]  # averages tensors over ranks in place; does nothing for one process


@dataclass(frozen=True)
class MetaRules:
    """Named switches of the numbered traps; the defaults are those of the published form."""

    value: Literal["last_negated", "argmax_positive"] = "last_negated"  # m = sigmoid(-u_last) | sigmoid(u_best)
    gradient: Literal["first", "all"] = "first"  # student tensors the meta gradient passes through
    weights: Literal["in_place", "clean"] = "in_place"  # weights the double backward sees: after | before the step
    sign: Literal["minus", "plus"] = "plus"  # simulated step w + c g (2020, the published numbers) | w - c g (later)
    pick: Literal["meta", "top1"] = "meta"  # top1: m = 0.5 and the board's head


@dataclass
class Choice:
    """A teacher and the meta value per part (with autograd unless the rule makes it constant)."""

    teacher: Path
    values: list[Tensor]
    scores: Tensor  # [K], averaged over parts and ranks


@contextmanager
def statistics_kept(net: nn.Module) -> Iterator[None]:
    """Train-mode forwards inside leave the running statistics of batch normalisation as they are."""
    layers = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def choose_teacher(
    net: Supernet, path: Path, board: Board, parts: int, rules: MetaRules, reduce: Reduce,
    shares: ShareStatistics | None = None,
) -> Choice:  # fmt: skip
    """For every board entry u_i = W . flatten(softmax(net(X_i, a)) - S_i) + b; teacher = argmax, m from one u.

    Forwards run in train mode and move the running statistics, in board order. Only the entry that m comes from needs
    a graph. Raises UserError when no score is a number (the supernet has diverged).
    """
    shares = shares or ShareStatistics(net, [1 / parts] * parts)
    head = board.entries[0]
    if rules.pick == "top1":
        return Choice(head.path, [head.images[0].new_tensor(0.5)] * parts, head.images[0].new_empty(0))
    last = len(board) - 1
    needs_graph = {last} if rules.value == "last_negated" and torch.is_grad_enabled() else set()
    rows: list[list[Tensor]] = []
    for part in range(parts):
        row = []
        for number, entry in enumerate(board.entries):
            with torch.set_grad_enabled(number in needs_graph):
                row.append(_score(net, shares, part, path, entry))
        rows.append(row)
    scores = torch.stack([torch.stack([u.detach() for u in row]) for row in rows]).mean(0)
    reduce([scores])
    if torch.isnan(scores).all():
        raise UserError(f"no teacher: all {len(board)} board scores are NaN, so the supernet has diverged; lower --lr")
    best = int(torch.where(scores.isnan(), -torch.inf, scores).argmax())
    if rules.value == "last_negated":
        values = [torch.sigmoid(-row[last]) for row in rows]
    else:
        entry = board.entries[best]
        with statistics_kept(net):
            values = [torch.sigmoid(_score(net, shares, part, path, entry)) for part in range(parts)]
    return Choice(board.entries[best].path, values, scores)


def _score(net: Supernet, shares: ShareStatistics, part: int, path: Path, entry: Entry) -> Tensor:
    return net.meta_score(torch.softmax(shares.run(part, entry.images[part], path), 1) - entry.soft[part])


@dataclass
class MetaReport:
    """What a meta update did; losses averaged over the parts."""

    soft_loss: float  # over all shares of all processes, as is the other
    validation_loss: float
    student_norm: float  # of g before clipping
    meta_norm: float  # of the meta gradient before clipping


def meta_update(
    net: Supernet, optimizer: PathSGD, lrs: list[float], path: Path, board: Board,
    batches: list[tuple[Tensor, Tensor]], slice_: int, rules: MetaRules, reduce: Reduce, clip: float = 1.0,
    smoothing: float = 0.1, shares: ShareStatistics | None = None,
) -> MetaReport:  # fmt: skip
    """One update of the meta layer theta by the validation loss after a simulated student step.

    batches: the training batch of each part; its pictures 0 .. slice-1 train, slice .. 2 slice-1 validate.
        L1 = m(theta, w) * softCE(net(x1, a), net(x1, teacher));   g = dL1/dw;   w' = w -+ c g
        theta gradient = (dw'/dtheta)^T dL2/dw at the updated weights
    The student's real step (g clipped, ordinary SGD) and the step of theta go through the ordinary optimiser, which
    also moves idle parameters. Raises UserError when a loss is not finite, in all processes or in none.
    """
    shares = shares or ShareStatistics(net, [1 / len(batches)] * len(batches))
    student, theta = net.path_parameters(path), net.meta_parameters()
    with recording():
        choice = choose_teacher(net, path, board, len(batches), rules, reduce, shares)
    optimizer.catch_up(net.path_parameters(choice.teacher))
    through = 1 if rules.gradient == "first" else len(student)

    graphs, soft_losses = [], []
    for part, ((x, _), value) in enumerate(zip(batches, choice.values, strict=True)):
        with recording():
            logits = shares.run(part, x[:slice_], path)
        with torch.no_grad():
            target = torch.softmax(shares.run(part, x[:slice_], choice.teacher), 1)
        loss = value * soft_target_cross_entropy(logits, target)
        graphs.append(torch.autograd.grad(loss, student, create_graph=True))
        soft_losses.append(loss.detach())
    gradient = [torch.stack([g.detach() for g in same]).mean(0) for same in zip(*graphs, strict=True)]
    reduce(gradient)

    moving = student + theta  # theta idles along when it has been used before
    before = [p.detach().clone() for p in moving] if rules.weights == "clean" else []
    student_norm = _step(optimizer, lrs, student, gradient, clip, still=())
    optimizer.catch_up(theta)

    velocity = [torch.zeros_like(p) for p in student[:through]]
    hard_losses = []
    for part, (x, y) in enumerate(batches):
        logits = shares.run(part, x[slice_ : 2 * slice_], path)
        loss = label_smoothing_cross_entropy(logits, y[slice_ : 2 * slice_], smoothing)
        for total, g in zip(velocity, torch.autograd.grad(loss, student[:through]), strict=True):
            total += g / len(batches)
        hard_losses.append(loss.detach())
    reduce(velocity)

    after = [p.detach().clone() for p in moving] if before else []
    if before:  # the graphs hold the parameters themselves: let them see the weights from before the step again
        _overwrite(moving, before)
    step_size = lrs[-1] if rules.sign == "plus" else -lrs[-1]
    meta_gradient = [torch.zeros_like(p) for p in theta]
    for graph in graphs:
        with meta_only():
            pulled = torch.autograd.grad(graph[:through], theta, velocity)
        for total, g in zip(meta_gradient, pulled, strict=True):
            total += step_size * g / len(graphs)
    if after:
        _overwrite(moving, after)
    reduce(meta_gradient)

    losses = torch.stack([torch.stack(soft_losses).mean(), torch.stack(hard_losses).mean()])
    reduce([losses])
    soft_loss, hard_loss = losses.tolist()
    if not (torch.isfinite(losses).all() and all(torch.isfinite(part).all() for part in meta_gradient)):
        raise UserError(f"meta update not finite (losses {soft_loss}, {hard_loss}) on path {path}; lower --lr")
    meta_norm = _step(optimizer, lrs, theta, meta_gradient, clip, still=student)
    return MetaReport(soft_loss, hard_loss, student_norm, meta_norm)


def _step(
    optimizer: PathSGD, lrs: list[float], params: list[nn.Parameter], gradient: list[Tensor], clip: float,
    still: list[nn.Parameter] | tuple[()],
) -> float:  # fmt: skip
    """One optimiser step in which only ``params`` have a gradient, clipped to a total norm; returns the norm before."""
    optimizer.clear()
    for p, g in zip(params, gradient, strict=True):
        p.grad = g.clone()
    norm = torch.nn.utils.clip_grad_norm_(params, clip)
    optimizer.step(lrs, still=still)
    optimizer.clear()
    optimizer.catch_up(params)
    return float(norm)


def _overwrite(params: list[nn.Parameter], values: list[Tensor]) -> None:
    """Put values into parameters without telling autograd (no version change)."""
    for p, value in zip(params, values, strict=True):
        p.data.copy_(value)
