"""Training epochs and evaluation: plain loops that a paper's train.py calls, one step at a time where it wants to save.

Models return logits [B, C], or (logits, auxiliary logits). Batches are (images, labels) on the device.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.run import distributed
from common.run.device import autocast, exact
from common.run.keep import look_now
from common.train.batchnorm import PartStatistics, average
from common.train.losses import TopK, check_finite, with_gradients
from common.train.optim import clip, trained_by
from common.train.sending import Sending, put_aside

Output = Tensor | tuple[Tensor, Tensor | None]
LossOf = Callable[[Output, Tensor], Tensor]


@dataclass(frozen=True)
class Metrics:
    """Mean loss (nats), top-1 and top-5 error in percent (None for fewer than six classes), number of images."""

    loss: float
    top1_error: float
    top5_error: float | None
    images: int

    def as_dict(self) -> dict[str, float]:
        """Under the names that results use; a top-5 error that says nothing is left out."""
        found = {"loss": self.loss, "top1_error_percent": self.top1_error}
        return found if self.top5_error is None else {**found, "top5_error_percent": self.top5_error}


def logits_of(output: Output) -> Tensor:
    """The main head's logits."""
    return output[0] if isinstance(output, tuple) else output


def auxiliary_loss(criterion: Callable[[Tensor, Tensor], Tensor], weight: float) -> LossOf:
    """loss(logits) + weight * loss(auxiliary logits), the latter where the model returns them."""

    def loss_of(output: Output, target: Tensor) -> Tensor:
        if isinstance(output, tuple):
            main, auxiliary = output
            loss = criterion(main, target)
            return loss if auxiliary is None else loss + weight * criterion(auxiliary, target)
        return criterion(output, target)

    return loss_of


def gradients(
    model: nn.Module, batch: Any, loss_of: Callable[[Tensor, Tensor], Tensor],
    parameters: Sequence[nn.Parameter] | None = None, **where: Any,
) -> Any:  # fmt: skip
    """The gradients of the mean loss over all images of a batch, of all shares and processes; returns that loss: a
    number, on a GPU a tensor [] there, which is looked at later (``check_finite``).

    batch: what this process holds of it, (images, labels) or a list of such shares, which are computed one after
    another; a share may be empty. loss_of: (images, labels) -> mean loss of a share. parameters: all that get a
    gradient, where the caller has them at hand: to find them takes milliseconds of a large network's step. Running
    statistics follow the rule of ``batchnorm.py``. Gradients are added to those that are there. A loss or a gradient
    that is not finite raises UserError, which says ``where``, in all processes.
    """
    shares = batch if isinstance(batch, list) else [tuple(batch)]
    parameters = list(model.parameters()) if parameters is None else parameters
    several = distributed.world_size() > 1
    sending = Sending(parameters, _images(shares)) if several and len(shares) == 1 else None

    def descend(inputs: Tensor, target: Tensor, part: float) -> Tensor:
        loss = loss_of(inputs, target)
        loss = loss if len(shares) == 1 else loss * part
        if sending is not None:
            sending.expect(loss)
        loss.backward()
        return loss.detach()

    return _over_shares(model, shares, parameters, descend, where, sending)


def gradients_of_terms(
    model: nn.Module, shares: list[tuple[Any, Any]], terms: Callable[[Any, Any], Tensor],
    also: Sequence[Tensor] = (), **where: Any,
) -> Any:  # fmt: skip
    """As ``gradients``, for losses that are differentiated term by term.

    terms: (inputs, targets) of a share -> its mean loss, without graph; its gradient has been added to ``.grad``. also:
    tensors beside the model's parameters that get a gradient. A share counts by the length of its targets.
    """
    parameters = [*model.parameters(), *also]

    def descend(inputs: Any, target: Any, part: float) -> Tensor:
        if len(shares) == 1:
            return terms(inputs, target)
        with put_aside(parameters, part):
            return terms(inputs, target) * part

    return _over_shares(model, shares, parameters, descend, where)


def _over_shares(
    model: nn.Module, shares: list[tuple[Any, Any]], parameters: Sequence[Tensor],
    descend: Callable[[Any, Any, float], Tensor], where: dict[str, Any], sending: Sending | None = None,
) -> Any:  # fmt: skip
    """parameters: whose gradients are looked at and sent. descend: (inputs, targets, the share's part of this process's
    images) -> its part of the mean loss. sending: what sends the gradients of the only share.
    """
    images = _images(shares)
    together = PartStatistics(model) if len(shares) > 1 else None
    device = parameters[0].device
    total = torch.zeros((), dtype=exact(device), device=device)
    several = distributed.world_size() > 1
    with put_aside(parameters) if several else contextlib.nullcontext():
        for inputs, target in shares:
            if not len(target):
                continue
            loss = descend(inputs, target, len(target) / images)
            total = total + loss.to(total)
            if together is not None:
                together.collect(len(target))
        if sending is not None:
            sending.rest()
        mean = check_finite(with_gradients(total, parameters), weight=images, **where)
        if together is not None:
            together.finish()
        else:
            average(model, images)
        if sending is not None:
            sending.finish()
        else:
            distributed.reduce_gradients(parameters, images)
    return mean


def _images(shares: list[tuple[Any, Any]]) -> int:
    return sum(len(target) for _, target in shares)


def mean_gradients(
    model: nn.Module, shares: list[tuple[Tensor, Tensor]], loss_of: Callable[[Tensor, Tensor], Tensor],
    tensors: Sequence[Tensor],
) -> tuple[list[Tensor], Tensor]:  # fmt: skip
    """(gradients for ``tensors``, the loss []) of the mean loss over all images, of all shares and processes.

    Nothing is left in ``.grad``; a tensor that the loss does not depend on gets zeros. Running statistics of the model
    follow the rule of ``batchnorm.py``.
    """
    images = sum(len(target) for _, target in shares)
    together = PartStatistics(model) if len(shares) > 1 else None
    device = tensors[0].device
    total, mean = [torch.zeros_like(each) for each in tensors], torch.zeros(1, dtype=exact(device), device=device)
    for inputs, target in shares:
        if not len(target):
            continue
        loss, part = loss_of(inputs, target), len(target) / images
        found = torch.autograd.grad(loss, list(tensors), allow_unused=True)
        mean += part * loss.detach().to(mean)
        if len(shares) == 1:
            total = [zeros if each is None else each for zeros, each in zip(total, found)]
        else:
            total = [old if each is None else old + part * each for old, each in zip(total, found)]
        if together is not None:
            together.collect(len(target))
    if together is not None:
        together.finish()
    else:
        average(model, images)
    distributed.all_reduce_mean([*total, mean], weight=images)
    return total, mean[0]


def train_step(
    model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss_of: LossOf, *, clip_norm: float = 0.0,
    precision: str = "fp32", counter: TopK | None = None, **where: Any,
) -> Any:  # fmt: skip
    """One step of ``optimizer`` down the mean loss of a batch (see ``gradients``); returns that loss.

    loss_of: (model's output, labels) -> loss; outputs are float32 under every ``precision``. clip_norm: total norm that
    gradients are cut to, 0: off. counter: counts hits and losses of the step.
    """

    def of_share(inputs: Tensor, target: Tensor) -> Tensor:
        with autocast(target.device, precision):
            output = model(inputs)
        if isinstance(output, tuple):
            output = tuple(o if o is None else o.float() for o in output)
        elif precision != "fp32":
            output = output.float()
        loss = loss_of(output, target)
        if counter is not None:
            counter.add(logits_of(output), target, loss)
        return loss

    optimizer.zero_grad(set_to_none=True)
    parameters = trained_by(optimizer)
    mean = gradients(model, batch, of_share, parameters, **where)
    clip(parameters, clip_norm)
    optimizer.step()
    return mean


def read(counter: TopK) -> Metrics:
    """Metrics over all processes of the job (one synchronisation); the counter is empty afterwards.

    Losses that wait are looked at before them.
    """
    look_now()
    distributed.all_reduce_sum([counter.totals])
    metrics = Metrics(*counter.read())
    counter.totals.zero_()
    return metrics


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    forward: Callable[[Any], Output] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
) -> Metrics:
    """Cross entropy (or another ``loss``), top-1 and top-5 error in eval mode; the model's mode is put back afterwards.

    ``forward`` replaces the plain call, e.g. to run one path of a supernet. Raises UserError for an empty set.
    """
    was_training = model.training
    model.eval()
    counter = TopK(device)
    run = forward or model
    for images, target in batches:
        if not len(target):
            continue
        with autocast(torch.device(device), precision):
            logits = logits_of(run(images))
        logits = logits.float()
        counter.add(logits, target, loss(logits, target))
    model.train(was_training)
    metrics = read(counter)
    if metrics.images == 0:
        raise UserError("no images to evaluate on; give a data set that is not empty, or a smaller batch size")
    if not math.isfinite(metrics.loss):
        raise UserError(
            f"the loss on {metrics.images} tested images is {metrics.loss}: weights or running statistics are not "
            f"finite, and nothing can be told from them"
        )
    return metrics
