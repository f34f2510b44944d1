"""Who teaches, how much the student listens, and how the meta layer learns it (Method 4 and 6).

A process holds one or more shares of the whole batch, each of which is one GPU's batch of the original (batch
normalisation sees one share at a time). Scores, gradients and losses are averaged over all shares, and whatever is
decided is decided on these averages, so all processes decide alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.run import distributed
from common.train.losses import label_smoothing_cross_entropy, soft_target_cross_entropy
from papers.cream.method.board import Board, Entry
from papers.cream.method.path_sgd import PathSGD
from papers.cream.method.student import Student
from papers.cream.networks.architectures import ChoicePath
from papers.cream.networks.convolution import meta_only, recording
from papers.cream.settings import Search


@dataclass(frozen=True)
class MetaRules:
    """Where the paper and the states of its code differ (README, deviations 2 to 5 and 16); defaults: as published."""

    value: Literal["last_negated", "argmax_positive"] = "last_negated"  # m = sigmoid(-u_last) | sigmoid(u_best)
    gradient: Literal["first", "all"] = "first"  # student tensors the meta gradient passes through
    weights: Literal["in_place", "clean"] = "in_place"  # weights the double backward sees: after | before the step
    sign: Literal["minus", "plus"] = "plus"  # simulated step w + c g (2020, the published numbers) | w - c g (later)
    pick: Literal["meta", "top1"] = "meta"  # top1: m = 0.5 and the board's head


def rules_of(settings: Search) -> MetaRules:
    """The rules that a search's settings choose."""
    return MetaRules(
        settings.meta_value, settings.meta_gradient, settings.meta_weights, settings.step_sign, settings.pick
    )


@dataclass
class Teacher:
    """A path of the board that teaches.

    values: the meta value m of each share of this process, with autograd unless the rule makes it constant. scores: u
    of every entry [K], averaged over shares and processes.
    """

    path: ChoicePath
    values: list[Tensor]
    scores: Tensor


@dataclass
class MetaReport:
    """What a meta update did; losses are means over all shares of all processes."""

    soft_loss: float
    validation_loss: float
    student_norm: float  # of g before clipping
    meta_norm: float  # of the meta gradient before clipping


def choose_teacher(student: Student, board: Board, rules: MetaRules) -> Teacher:
    """The entry with the largest u_i = W . flatten(softmax(net(X_i, a)) - S_i) + b, and m from one u (Method 4).

    Forwards run in train mode and move the running statistics, in board order. Only the entry that m comes from needs
    a graph. Raises UserError when no score is a number (the supernet has diverged).
    """
    shares, head = range(len(student.shares)), board.entries[0]
    if rules.pick == "top1":
        return Teacher(head.path, [head.images[0].new_tensor(0.5) for _ in shares], head.images[0].new_empty(0))
    last = len(board) - 1
    needs_graph = {last} if rules.value == "last_negated" and torch.is_grad_enabled() else set()
    rows: list[list[Tensor]] = []
    for share in shares:
        row = []
        for number, entry in enumerate(board.entries):
            with torch.set_grad_enabled(number in needs_graph):
                row.append(_score(student, share, entry))
        rows.append(row)
    scores = torch.stack([torch.stack([u.detach() for u in row]) for row in rows]).mean(0)
    distributed.all_reduce_mean([scores])
    found = scores.tolist()  # the step waits for the device here: the teacher's path is run next
    if all(map(math.isnan, found)):
        raise UserError(f"no teacher: all {len(board)} board scores are NaN, so the supernet has diverged; lower --lr")
    best = max(range(len(found)), key=lambda number: -math.inf if math.isnan(found[number]) else found[number])
    if rules.value == "last_negated":
        values = [torch.sigmoid(-row[last]) for row in rows]
    else:
        with _statistics_kept(student.supernet):
            values = [torch.sigmoid(_score(student, share, board.entries[best])) for share in shares]
    return Teacher(board.entries[best].path, values, scores)


def meta_update(
    student: Student, board: Board, rules: MetaRules, label_smoothing: float = 0.1, clip: float = 1.0
) -> MetaReport:
    """One update of the meta layer theta by the validation loss after a simulated student step (Method 6).

    Pictures 0 .. slice-1 of each share train, slice .. 2 slice-1 validate.
        L1 = m(theta, w) * softCE(net(x1, a), net(x1, teacher));   g = dL1/dw;   w' = w -+ c g
        theta gradient = (dw'/dtheta)^T dL2/dw at the updated weights
    The student's real step (g clipped to the norm ``clip``, ordinary SGD) and the step of theta go through the ordinary
    optimiser, which also moves idle parameters. Raises UserError when a loss is not finite, in all processes or none.
    """
    optimizer, w, theta = student.optimizer, student.parameters, student.theta
    with recording():
        teacher = choose_teacher(student, board, rules)
    optimizer.catch_up(student.supernet.path_parameters(teacher.path))
    graphs, soft_loss = _distillation_gradients(student, teacher)
    g = _mean_over_shares([[each.detach() for each in graph] for graph in graphs])

    clean = rules.weights == "clean"  # the graphs hold the parameters themselves: let them see those of before the step
    before = [p.detach().clone() for p in w + theta] if clean else []  # theta idles along if it has been used before
    student_norm = _step(optimizer, w, g, clip)
    optimizer.catch_up(theta)
    counted = w[:1] if rules.gradient == "first" else w
    v, validation_loss = _validation_gradient(student, counted, label_smoothing)

    c = optimizer.lrs[-1] if rules.sign == "plus" else -optimizer.lrs[-1]
    with _weights_put_back(w + theta, before), meta_only():
        pulled = [torch.autograd.grad(graph[: len(counted)], theta, v) for graph in graphs]
    meta_gradient = [torch.zeros_like(p) for p in theta]
    for one in pulled:
        for total, part in zip(meta_gradient, one, strict=True):
            total += c * part / len(pulled)
    distributed.all_reduce_mean(meta_gradient)

    losses = torch.stack([soft_loss, validation_loss])
    distributed.all_reduce_mean([losses])
    finite = torch.stack([torch.isfinite(part).all() for part in (losses, *meta_gradient)]).all()
    soft, hard, fine = torch.stack([*losses, finite.to(losses)]).tolist()
    if not fine:
        raise UserError(f"meta update not finite (losses {soft}, {hard}) on path {student.path}; lower --lr")
    meta_norm = _step(optimizer, theta, meta_gradient, clip, still=w)
    return MetaReport(soft, hard, *torch.stack([student_norm, meta_norm]).tolist())


def _score(student: Student, share: int, entry: Entry) -> Tensor:
    """u of an entry on a share: a scalar."""
    probabilities = torch.softmax(student.logits(share, entry.images[share]), 1)
    return student.supernet.meta_score(probabilities - entry.soft[share])


def _distillation_gradients(student: Student, teacher: Teacher) -> tuple[list[tuple[Tensor, ...]], Tensor]:
    """(g = dL1/dw of every share with its graph, mean of L1 over the shares)."""
    graphs, losses, size = [], [], student.supernet.slice
    for share, (x, _) in enumerate(student.shares):
        with recording():
            logits = student.logits(share, x[:size])
        target = student.taught(share, x[:size], teacher.path)
        loss = teacher.values[share] * soft_target_cross_entropy(logits, target)
        graphs.append(torch.autograd.grad(loss, student.parameters, create_graph=True))
        losses.append(loss.detach())
    return graphs, torch.stack(losses).mean()


def _validation_gradient(
    student: Student, counted: list[nn.Parameter], label_smoothing: float
) -> tuple[list[Tensor], Tensor]:
    """(v = dL2/dw of the counted tensors, averaged over all shares; mean of L2 over this process's shares)."""
    v, losses, size = [torch.zeros_like(p) for p in counted], [], student.supernet.slice
    for share, (x, y) in enumerate(student.shares):
        logits = student.logits(share, x[size : 2 * size])
        loss = label_smoothing_cross_entropy(logits, y[size : 2 * size], label_smoothing)
        for total, part in zip(v, torch.autograd.grad(loss, counted), strict=True):
            total += part / len(student.shares)
        losses.append(loss.detach())
    distributed.all_reduce_mean(v)
    return v, torch.stack(losses).mean()


def _mean_over_shares(gradients: list[list[Tensor]]) -> list[Tensor]:
    """Mean over the shares of all processes, tensor by tensor."""
    mean = [torch.stack(same).mean(0) for same in zip(*gradients, strict=True)]
    distributed.all_reduce_mean(mean)
    return mean


def _step(
    optimizer: PathSGD, params: list[nn.Parameter], gradient: list[Tensor], clip: float,
    still: Sequence[nn.Parameter] = (),
) -> Tensor:  # fmt: skip
    """One optimiser step in which only ``params`` have a gradient, clipped to a total norm; the norm [] before."""
    optimizer.clear()
    for p, g in zip(params, gradient, strict=True):
        p.grad = g.clone()
    norm = torch.nn.utils.clip_grad_norm_(params, clip)
    optimizer.step(still=still)
    optimizer.clear()
    optimizer.catch_up(params)
    return norm


@contextmanager
def _statistics_kept(net: nn.Module) -> Iterator[None]:
    """Train-mode forwards inside leave the running statistics of batch normalisation as they are."""
    layers = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


@contextmanager
def _weights_put_back(params: list[nn.Parameter], values: list[Tensor]) -> Iterator[None]:
    """Inside, the parameters have these values (none given: their own), without autograd taking note of it."""
    after = [p.detach().clone() for p in params] if values else []
    for p, value in zip(params, values):
        p.data.copy_(value)
    yield
    for p, value in zip(params, after):
        p.data.copy_(value)
