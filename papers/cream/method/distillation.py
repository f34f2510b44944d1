"""One step of the student: its own labels and, once a teacher exists, what the teacher says (Method 5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from common.errors import UserError
from common.run import distributed
from common.train.losses import label_smoothing_cross_entropy, soft_target_cross_entropy, with_gradients
from papers.cream.method.meta import Teacher
from papers.cream.method.student import Student


@dataclass
class Outcome:
    """What a step measured, before its update; means over all shares of all processes.

    score: top-1 in percent on the batch. images, probabilities: for each share of this process the first ``slice``
    pictures, and the probabilities that a new entry of the board stores with them.
    """

    loss: float
    hard_loss: float
    soft_loss: float | None
    score: float
    meta_value: float | None
    images: list[Tensor]
    probabilities: list[Tensor]


def distillation_mix(value: Tensor | float, soft: Tensor, hard: Tensor) -> Tensor:
    """L = (m L_kd + (2 - m) L_ce) / 2, with the meta value m in (0, 1) (Method 5)."""
    return (value * soft + (2 - value) * hard) / 2


def train_student(
    student: Student, teacher: Teacher | None, label_smoothing: float = 0.1,
    stored: Literal["teacher", "own"] = "teacher", **where: Any,
) -> Outcome:  # fmt: skip
    """Train the student's path by one step; without a teacher by cross entropy alone.

    stored: whose probabilities an entry of the board would get. Raises UserError, which says ``where``, when the loss
    is not finite, before any weight is changed by it, in all processes or in none.
    """
    optimizer, size = student.optimizer, student.supernet.slice
    if teacher is not None:
        optimizer.catch_up(student.supernet.path_parameters(teacher.path))
    optimizer.clear()
    sums: list[Tensor] = []
    probabilities: list[Tensor] = []
    for share, (x, y) in enumerate(student.shares):
        logits = student.logits(share, x)
        hard = label_smoothing_cross_entropy(logits, y, label_smoothing)
        own = torch.softmax(logits.detach(), 1)
        if teacher is None:
            loss, soft, taught = hard, hard.new_zeros(()), own
        else:
            taught = student.taught(share, x, teacher.path)
            soft = soft_target_cross_entropy(logits, taught)
            loss = distillation_mix(teacher.values[share], soft, hard)
        probabilities.append((own if stored == "own" else taught)[:size])
        correct = (logits.detach().argmax(1) == y).sum().to(loss.dtype)
        sums.append(torch.stack([*(v.detach() * student.weights[share] for v in (loss, hard, soft)), correct]))
        (loss * student.weights[share]).backward()
    total = with_gradients(torch.stack(sums).sum(0), student.parameters + student.theta)
    distributed.all_reduce_mean([total])
    value = hard.new_zeros(()) if teacher is None else torch.stack([v.detach() for v in teacher.values]).mean()
    # the score decides what the next step does, so the step waits for the device: here, and once
    *found, meta_value = torch.stack([*total, value.to(total)]).tolist()
    mean, mean_hard, mean_soft, right = found
    if not all(map(math.isfinite, found)):
        place = ", ".join(f"{key} {value}" for key, value in where.items())
        raise UserError(f"loss {mean} in {place or 'this step'} on path {student.path}: diverged; lower --lr")
    distributed.all_reduce_mean([p.grad for p in student.parameters + student.theta if p.grad is not None])
    student.statistics.finish()
    optimizer.step()
    optimizer.clear()
    # in whole images: as many right ones are a tie on the board, however they are spread over the shares
    processes = distributed.world_size()
    score = 100 * round(right * processes) / round(student.images * processes)
    images = [x[:size] for x, _ in student.shares]
    taught_by = (mean_soft, meta_value) if teacher else (None, None)
    return Outcome(mean, mean_hard, taught_by[0], score, taught_by[1], images, probabilities)
