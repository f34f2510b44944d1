"""Losses and error counters that two or more papers use."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def label_smoothing_cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.1) -> Tensor:
    """mean_b sum_c -q_c log softmax(z)_c with q = (1 - eps) onehot(target) + eps / C (eps = smoothing).

    logits [B, C], target int64 [B]; the scalar mean. ``smoothing`` 0 is plain cross entropy.
    """
    return F.cross_entropy(logits, target, label_smoothing=smoothing)


def soft_target_cross_entropy(logits: Tensor, soft: Tensor) -> Tensor:
    """mean_b sum_c -q_c log softmax(z)_c with given probabilities q [B, C]."""
    return F.cross_entropy(logits, soft)


class TopK:
    """Counts of top-1 and top-5 hits and the summed loss, kept on the device; one synchronisation in ``read``."""

    def __init__(self, device: torch.device | str = "cpu", k: int = 5) -> None:
        self.k = k
        self.totals = torch.zeros(4, dtype=torch.float64, device=device)  # loss * images, top-1, top-k, images

    @torch.no_grad()
    def add(self, logits: Tensor, target: Tensor, loss: Tensor | None = None) -> None:
        """Add a batch: logits [B, C], target int64 [B], mean loss of the batch."""
        images = len(target)
        best = logits.detach().float().topk(min(self.k, logits.shape[1]), dim=1).indices.eq(target[:, None])
        value = torch.zeros((), device=logits.device) if loss is None else loss.detach()
        batch = torch.stack([value.double() * images, best[:, 0].sum().double(), best.sum().double()])
        self.totals[:3] += batch.to(self.totals.device)
        self.totals[3] += images

    def read(self) -> tuple[float, float, float, int]:
        """(mean loss, top-1 error in percent, top-k error in percent, images)."""
        loss, first, top, images = self.totals.tolist()
        count = max(images, 1.0)
        return loss / count, 100 * (1 - first / count), 100 * (1 - top / count), int(images)

    def state(self) -> Tensor:
        """The totals, to be put into a run's state."""
        return self.totals.clone()

    def restore(self, totals: Tensor) -> None:
        """Continue from ``state()``."""
        self.totals = totals.to(self.totals.device).clone()
