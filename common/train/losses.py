"""Losses and error counters that two or more papers use; a loss that is no finite number ends a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import UserError
from common.run import distributed
from common.run.device import exact
from common.run.keep import look_later
from common.run.progress import short


def label_smoothing_cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.1) -> Tensor:
    """mean_b sum_c -q_c log softmax(z)_c with q = (1 - eps) onehot(target) + eps / C (eps = smoothing).

    logits [B, C], target int64 [B]; the scalar mean. ``smoothing`` 0 is plain cross entropy.
    """
    return F.cross_entropy(logits, target, label_smoothing=smoothing)


def soft_target_cross_entropy(logits: Tensor, soft: Tensor) -> Tensor:
    """mean_b sum_c -q_c log softmax(z)_c with given probabilities q [B, C]."""
    return F.cross_entropy(logits, soft)


def waits(device: torch.device) -> bool:
    """Whether reading a number from the device means waiting for all that it was told to do before."""
    return device.type != "cpu"


def look(number: Tensor, at: Callable[[float], None]) -> None:
    """``at(number)`` for a tensor []: now, on a GPU later, together with others (``look_later``)."""
    if waits(number.device):
        look_later(number, at)
    else:
        at(float(number))


def check_finite(loss: Any, *, weight: float = 1.0, **where: Any) -> Any:
    """The loss as a number; UserError for a NaN or infinite one (or gradient, see ``with_gradients``), saying where.
    Call it before the update.

    In several processes it is the mean over all of them, each weighted by ``weight`` (its images; 0 for an empty
    share), so that all raise or none: a common act of all processes.

    A loss on a GPU stays there, a tensor [], and is looked at later, together with others (``look_later``): no step
    waits for the device. Updates after a loss that is not finite are then computed, but none is kept.
    """
    if isinstance(loss, Tensor) and waits(loss.device):
        mean = loss.detach().to(exact(loss.device)).reshape(1).clone()
        distributed.all_reduce_mean([mean], weight=weight)
        look_later(mean[0], lambda value: refuse_infinite(value, where))
        return mean[0]
    value = float(loss.detach() if isinstance(loss, Tensor) else loss)
    if distributed.world_size() > 1:
        mean = torch.tensor([value], dtype=torch.float64)
        distributed.all_reduce_mean([mean], weight=weight)
        value = mean.item()
    refuse_infinite(value, where)
    return value


def refuse_infinite(value: float, where: dict[str, Any]) -> None:
    """Raises UserError, which says ``where``, for a loss that is no finite number."""
    if not math.isfinite(value):
        place = ", ".join(f"{key} {short(val)}" for key, val in where.items())
        raise UserError(
            f"the loss is {value} at {place or 'this step'} (or a gradient of it is not finite): the run has diverged "
            f"and stops before this update; look at the data, or start over (--no-resume, or another --out) with a "
            f"lower learning rate or a gradient clip"
        )


@torch.no_grad()
def with_gradients(loss: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """The loss itself where all gradients and their norms are finite, else NaN: one look (``check_finite``) sees both.

    loss: scalar. parameters: whose gradients count, those without one are passed over.
    """
    found = [p.grad for p in parameters if p.grad is not None]
    if not found:
        return loss
    largest = torch.stack([norm.to(loss.device) for norm in torch._foreach_norm(found)]).amax()
    return loss + (0.0 * largest).to(loss)


class TopK:
    """Counts of top-1 and top-5 hits and the summed loss, kept on the device; one synchronisation in ``read``.

    With k classes or fewer every guess is among the best k: the top-k error is then no measurement and reads as None.
    """

    def __init__(self, device: torch.device | str = "cpu", k: int = 5) -> None:
        self.k = k
        self.totals = torch.zeros(4, dtype=exact(device), device=device)  # loss * images, top-1, top-k, images

    @torch.no_grad()
    def add(self, logits: Tensor, target: Tensor, loss: Tensor | None = None) -> None:
        """Add a batch: logits [B, C], target int64 [B], mean loss of the batch. An empty batch adds nothing."""
        images = len(target)
        if not images:
            return
        best = logits.detach().float().topk(min(self.k, logits.shape[1]), dim=1).indices.eq(target[:, None])
        value = torch.zeros((), device=logits.device) if loss is None else loss.detach()
        hits = best.sum() if logits.shape[1] > self.k else torch.full_like(value, math.nan)
        kind = exact(logits.device)
        batch = torch.stack([value.to(kind) * images, best[:, 0].sum().to(kind), hits.to(kind)])
        self.totals[:3] += batch.to(self.totals.device)
        self.totals[3] += images

    def read(self) -> tuple[float, float, float | None, int]:
        """(mean loss, top-1 error in percent, top-k error in percent or None, images) of this process's batches."""
        loss, first, top, images = self.totals.tolist()
        count = max(images, 1.0)
        top_error = None if math.isnan(top) else 100 * (1 - top / count)
        return loss / count, 100 * (1 - first / count), top_error, int(images)

    def state_dict(self) -> dict[str, Tensor]:
        """What a run keeps: the totals of all processes (in several processes a common act of all)."""
        totals = self.totals.clone()
        distributed.all_reduce_sum([totals])
        return {"totals": totals}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state_dict()``: process 0 takes the totals, so that the sum over processes stays right."""
        self.totals = state["totals"].to(self.totals.device).clone()
        if distributed.rank():
            self.totals.zero_()
