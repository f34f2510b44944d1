"""Training epochs and evaluation: plain loops that a paper's train.py calls, one step at a time where it wants to save.

Models return logits [B, C], or (logits, auxiliary logits). Batches are (images, labels) on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from common.cli.errors import UserError
from common.run import seeds
from common.run.folder import check_finite
from common.train import distributed
from common.train.batchnorm import PartStatistics, average
from common.train.device import autocast
from common.train.losses import TopK
from common.train.optim import EMA, clip

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


def train_steps(
    model: nn.Module,
    batches: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    loss_of: LossOf,
    *,
    clip_norm: float = 0.0,
    ema: EMA | None = None,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    start_step: int = 0,
    counter: TopK | None = None,
    every_check: int = 1,
    seed: int,
    epoch: int,
) -> Iterator[int]:
    """One epoch, one step per ``next``: yields the number of steps done, so that the caller can save in between.

    ``batches`` starts at batch ``start_step`` and gives what this process holds of a batch: (images, labels), or a list
    of such shares, which are computed one after another. Gradients are the mean over the images of the whole batch, of
    all shares and processes; running statistics follow the rule of ``batchnorm.py``; a share may be empty. What a
    step draws in several processes is a function of (seed, rank, epoch, step). A non-finite loss of the
    whole batch raises UserError before the update, in all processes (looked at every ``every_check`` steps).
    """
    device = torch.device(device)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for step, batch in enumerate(batches, start_step):
        seeds.step_chance(seed, epoch, step)
        optimizer.zero_grad(set_to_none=True)
        shares = batch if isinstance(batch, list) else [tuple(batch)]
        images = sum(len(target) for _, target in shares)
        together = PartStatistics(model) if len(shares) > 1 else None
        total = torch.zeros((), device=device)
        for inputs, target in shares:
            if not len(target):
                continue
            with autocast(device, precision):
                output = model(inputs)
            output = tuple(o if o is None else o.float() for o in output) if isinstance(output, tuple) else output
            loss = loss_of(output if isinstance(output, tuple) or precision == "fp32" else output.float(), target)
            share = loss if len(shares) == 1 else loss * (len(target) / images)
            share.backward()
            total = total + share.detach()
            if counter is not None:
                counter.add(logits_of(output), target, loss)
            if together is not None:
                together.collect(len(target))
        if every_check and step % every_check == 0:
            check_finite(total, weight=images, step=step)
        if together is not None:
            together.finish()
        else:
            average(model, images)
        distributed.reduce_gradients(params, images)
        clip(params, clip_norm)
        optimizer.step()
        if ema is not None:
            ema.update(model)
        yield step + 1


def read(counter: TopK) -> Metrics:
    """Metrics over all processes of the job (one synchronisation)."""
    distributed.all_reduce_sum([counter.totals])
    return Metrics(*counter.read())


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
    return metrics
