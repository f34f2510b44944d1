"""One iteration of the search (Algorithm 1 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from common.cli.errors import UserError
from common.train import distributed
from common.train.losses import label_smoothing_cross_entropy, soft_target_cross_entropy
from papers.cream.method.board import Board, Entry
from papers.cream.method.losses import distillation_mix
from papers.cream.method.meta import MetaReport, MetaRules, Reduce, choose_teacher, meta_update
from papers.cream.method.path_sgd import PathSGD
from papers.cream.method.statistics import ShareStatistics
from papers.cream.network.architectures import Path
from papers.cream.network.layout import FlopsTable
from papers.cream.network.networks import Supernet


@dataclass(frozen=True)
class StepRules:
    """What an iteration needs besides its data; defaults are the published run's."""

    start_epoch: int = 20  # distillation, board and meta updates happen in epochs after this one (0-based)
    update_every: int = 200  # iterations between meta updates, counted inside an epoch; 0: none
    slice_: int = 4
    smoothing: float = 0.1
    stored: str = "teacher"  # probabilities stored with a new board entry: of the iteration's teacher | own
    window: tuple[float, float] | None = None  # admit only paths with MFLOPs inside
    meta: MetaRules = field(default_factory=MetaRules)


@dataclass
class StepReport:
    path: Path
    flops: float
    loss: float
    hard: float
    soft: float | None
    score: float
    accepted: bool
    meta_value: float | None = None
    teacher: Path | None = None
    meta: MetaReport | None = None


def search_step(
    net: Supernet, optimizer: PathSGD, board: Board, table: FlopsTable, path: Path, epoch: int, batch_index: int,
    batches: list[tuple[Tensor, Tensor]], lrs: list[float], rules: StepRules, reduce: Reduce, images: float = 0.0,
) -> StepReport:  # fmt: skip
    """Train one path on the shares of one batch and offer it to the board.

    batches: for each share of this process (images [B, 3, H, W], labels [B]); the net is in train mode. images: those
    of the whole batch, divided by the processes (0: those given). Loss, gradient and top-1 are means over all of it.
    Raises UserError when the loss is not finite, before any weight is changed by it, in all processes or in none.
    """
    images = images or sum(len(y) for _, y in batches)
    weights = [len(y) / images for _, y in batches]
    shares = ShareStatistics(net, weights)
    student = net.path_parameters(path) + net.meta_parameters()
    optimizer.catch_up(student)
    flops = table.flops(path)
    distil = epoch > rules.start_epoch

    report = None
    due = rules.update_every and batch_index > 0 and batch_index % rules.update_every == 0
    if distil and due and len(board):
        report = meta_update(
            net, optimizer, lrs, path, board, batches, rules.slice_, rules.meta, reduce, smoothing=rules.smoothing,
            shares=shares,
        )  # fmt: skip

    choice = None
    if len(board):
        choice = choose_teacher(net, path, board, len(batches), rules.meta, reduce, shares)
        optimizer.catch_up(net.path_parameters(choice.teacher))

    optimizer.clear()
    seen: list[Tensor] = []
    stored: list[Tensor] = []
    for part, (x, y) in enumerate(batches):
        logits = shares.run(part, x, path)
        hard = label_smoothing_cross_entropy(logits, y, rules.smoothing)
        if choice is None or not distil:
            loss, soft = hard, hard.new_zeros(())
            probabilities = torch.softmax(logits.detach(), 1)
        else:
            with torch.no_grad():
                probabilities = torch.softmax(shares.run(part, x, choice.teacher), 1)
            soft = soft_target_cross_entropy(logits, probabilities)
            loss = distillation_mix(choice.values[part], soft, hard)
            if rules.stored == "own":
                probabilities = torch.softmax(logits.detach(), 1)
        stored.append(probabilities[: rules.slice_].clone())
        correct = (logits.detach().argmax(1) == y).sum().to(loss.dtype)
        seen.append(torch.stack([*(value.detach() * weights[part] for value in (loss, hard, soft)), correct]))
        (loss * weights[part]).backward()
    total = torch.stack(seen).sum(0)
    reduce([total])
    loss_, hard_, soft_, correct_ = total.tolist()
    if not torch.isfinite(total).all():
        raise UserError(f"loss {loss_} in epoch {epoch}, batch {batch_index} on path {path}: diverged; lower --lr")
    # in whole images: as many right ones are a tie on the board, however they are spread over the shares
    score_ = 100 * round(correct_ * distributed.world_size()) / round(images * distributed.world_size())
    reduce([p.grad for p in student if p.grad is not None])
    shares.finish()
    optimizer.step(lrs)
    optimizer.clear()

    inside = rules.window is None or rules.window[0] <= flops <= rules.window[1]
    accepted = inside and board.admits(epoch, score_, flops)
    if accepted:
        board.add(Entry(score_, flops, path, [x[: rules.slice_].clone() for x, _ in batches], stored))
    distilled = choice is not None and distil
    return StepReport(
        path, flops, loss_, hard_, soft_ if distilled else None, score_, accepted,
        float(torch.stack([v.detach() for v in choice.values]).mean()) if distilled and choice else None,
        choice.teacher if distilled and choice else None, report,
    )  # fmt: skip
