"""Training epochs and evaluation: plain loops that a paper's train.py calls, one step at a time where it wants to save.

Models return logits [B, C], or (logits, auxiliary logits). Batches are (images, labels) on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from common import distributed
from common.device import autocast
from common.errors import UserError
from common.losses import TopK
from common.optim import EMA, clip
from common.runs import check_finite

Output = Tensor | tuple[Tensor, Tensor | None]
LossOf = Callable[[Output, Tensor], Tensor]


@dataclass(frozen=True)
class Metrics:
    """Mean loss (nats), top-1 and top-5 error in percent, number of images."""

    loss: float
    top1_error: float
    top5_error: float
    images: int

    def as_dict(self) -> dict[str, float]:
        """Under the names that results use."""
        return {"loss": self.loss, "top1_error_percent": self.top1_error, "top5_error_percent": self.top5_error}


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
    batches: Iterable[tuple[Tensor, Tensor]],
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
) -> Iterator[int]:
    """One epoch, one step per ``next``: yields the number of steps done, so that the caller can save in between.

    ``batches`` starts at batch ``start_step``. Gradients are averaged over the processes of the job. A non-finite loss
    raises UserError before the update (looked at every ``every_check`` steps).
    """
    device = torch.device(device)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    bare = model.module if hasattr(model, "module") and isinstance(model.module, nn.Module) else model
    reduce_by_hand = distributed.world_size() > 1 and bare is model
    for step, (images, target) in enumerate(batches, start_step):
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            output = model(images)
        output = tuple(o if o is None else o.float() for o in output) if isinstance(output, tuple) else output
        loss = loss_of(output if isinstance(output, tuple) or precision == "fp32" else output.float(), target)
        if every_check and step % every_check == 0:
            check_finite(loss, step=step)
        loss.backward()
        if reduce_by_hand:
            distributed.all_reduce_mean([p.grad for p in params if p.grad is not None])
        clip(params, clip_norm)
        optimizer.step()
        if ema is not None:
            ema.update(bare)
        if counter is not None:
            counter.add(logits_of(output), target, loss)
        yield step + 1


def train_epoch(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    loss_of: LossOf,
    *,
    clip_norm: float = 0.0,
    ema: EMA | None = None,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    start_step: int = 0,
    counter: TopK | None = None,
) -> Metrics:
    """A whole epoch in train mode (see ``train_steps``); metrics of the training batches, before each update."""
    model.train()
    counter = counter or TopK(device)
    steps = train_steps(
        model, batches, optimizer, loss_of, clip_norm=clip_norm, ema=ema, device=device, precision=precision,
        start_step=start_step, counter=counter,
    )  # fmt: skip
    for _ in steps:
        pass
    return read(counter)


def read(counter: TopK) -> Metrics:
    """Metrics over all processes of the job (one synchronisation)."""
    if distributed.world_size() > 1:
        distributed.all_reduce_mean([counter.totals])
        counter.totals *= distributed.world_size()
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
        with autocast(torch.device(device), precision):
            logits = logits_of(run(images))
        logits = logits.float()
        counter.add(logits, target, loss(logits, target))
    model.train(was_training)
    metrics = read(counter)
    if metrics.images == 0:
        raise UserError("no images to evaluate on; give a data set that is not empty, or a smaller batch size")
    return metrics
