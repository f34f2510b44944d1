"""Training the shared weights along sampled paths, and scoring architectures with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from common.run.folder import check_finite
from common.train import distributed
from common.train.batchnorm import PartStatistics, average
from common.train.device import autocast
from common.train.optim import clip
from common.train.schedules import cosine
from papers.nao_v2.network.architectures import Architecture
from papers.nao_v2.network.supernet import Supernet


def build_optimizer(network: Supernet, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """SGD with decay on everything; the rate is set per epoch. foreach: 7,349 small tensors in a few calls."""
    return torch.optim.SGD(network.parameters(), lr=0.0, momentum=momentum, weight_decay=weight_decay, foreach=True)


def learning_rate(rule: str, iteration: int, epoch: int, epochs: int, base: float, minimum: float) -> float:
    """Rate of an epoch of an outer iteration.

    restart: 0.001 + 0.024 (1 + cos(pi e / E)) / 2 anew in each iteration (state at publication). continue: one cosine
    runs on over all iterations: down, up, down, up (before 2019-09-26). drift: what the original's calls give on torch
    2, where the first value is skipped and iterations 1 to 3 stay at the minimum.
    """
    if rule == "continue":
        return cosine(base, minimum, iteration * epochs + epoch, epochs)
    if rule == "drift":
        return cosine(base, minimum, epoch + 1, epochs) if iteration == 0 else minimum
    return cosine(base, minimum, epoch, epochs)


def supernet_step(
    network: Supernet, architecture: Architecture, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer,
    clip_norm: float, zero_grad: str, precision: str = "fp32", shares: Sequence[int] = (),
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One SGD step along one path; returns (loss, logits).

    gradients: ``zeros`` keeps the gradients of parameters used earlier as zeros, so that momentum and decay move
    them (torch 1, the published run); a parameter never used has none yet. ``none``: unused parameters stand still.
    shares: numbers of images of the parts of ``x`` that have batch statistics of their own (default: one part); all
    processes run the same path, each on its parts of the batch, and the gradient is the mean over the whole batch.
    """
    optimizer.zero_grad(set_to_none=zero_grad == "none")
    sizes, images = list(shares) or [len(y)], len(y)
    together = PartStatistics(network) if len(sizes) > 1 else None
    loss, found = torch.zeros((), device=x.device), []
    for part, target in zip(x.split(sizes), y.split(sizes)):
        if not len(target):
            continue
        with autocast(x.device, precision):
            logits = network(part, architecture)
        share = F.cross_entropy(logits.float(), target)
        share = share if len(sizes) == 1 else share * (len(target) / images)
        share.backward()
        loss = loss + share.detach()
        found.append(logits.detach())
        if together is not None:
            together.collect(len(target))
    check_finite(loss, weight=images, architecture=str(architecture))
    if together is not None:
        together.finish()
    else:
        average(network, images)
    distributed.reduce_gradients(network.parameters(), images)
    clip(network.parameters(), clip_norm)
    optimizer.step()
    return loss, torch.cat(found) if found else x.new_zeros(0, network.classifier.out_features)


@torch.inference_mode()
def score(
    network: Supernet, architecture: Architecture, batches: list[tuple[Tensor, Tensor]], precision: str = "fp32"
) -> float:
    """Accuracy (fraction) along a path: eval mode, but the path's BNs use the statistics of each batch."""
    network.eval()
    right = images = 0
    for x, y in batches:
        with autocast(x.device, precision):
            right = right + (network(x, architecture, True).argmax(1) == y).sum()
        images += len(y)
    return float(right) / images
