"""Training the shared weights along sampled paths, and scoring architectures with them (Method 3 and 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.batches import Batches
from common.data.sets import Images
from common.run import seeds
from common.run.device import autocast
from common.run.folder import Run
from common.train.loop import Metrics, gradients, read
from common.train.losses import TopK
from common.train.optim import clip, trained_by
from common.train.schedules import cosine
from papers.nao_v2.data.sets import all_batches, validation_batch
from papers.nao_v2.method.balanced import Sampler
from papers.nao_v2.networks.architectures import Architecture
from papers.nao_v2.networks.operations import set_step
from papers.nao_v2.networks.supernet import Supernet
from papers.nao_v2.settings import SupernetTraining


def build_optimizer(network: Supernet, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """SGD with decay on everything; the rate is set per epoch. foreach: 7,349 small tensors in a few calls."""
    return torch.optim.SGD(network.parameters(), lr=0.0, momentum=momentum, weight_decay=weight_decay, foreach=True)


class UsedWeights:
    """Which shared weights a run has used: those with a gradient, if of zeros. Kept by the run, since the weights, the
    optimiser and its buffers do not tell.
    """

    def __init__(self, network: Supernet) -> None:
        self.parameters = list(network.parameters())

    def state_dict(self) -> dict[str, list[int]]:
        """Their places among the parameters."""
        return {"used": [place for place, parameter in enumerate(self.parameters) if parameter.grad is not None]}

    def load_state_dict(self, state: dict[str, list[int]]) -> None:
        """Zeros will do: the next step begins by clearing gradients."""
        for place in state["used"]:
            self.parameters[place].grad = torch.zeros_like(self.parameters[place])


def learning_rate(rule: str, iteration: int, epoch: int, epochs: int, base: float, minimum: float) -> float:
    """Rate of an epoch of an outer iteration (Method 3).

    restart: 0.001 + 0.024 (1 + cos(pi e / E)) / 2 anew in each iteration (state at publication). continue: one cosine
    runs on over all iterations: down, up, down, up (before 2019-09-26). drift: what the original's calls give on torch
    2, where the first value is skipped and iterations 1 to 3 stay at the minimum.
    """
    if rule == "continue":
        return cosine(base, minimum, iteration * epochs + epoch, epochs)
    if rule == "drift":
        return cosine(base, minimum, epoch + 1, epochs) if iteration == 0 else minimum
    return cosine(base, minimum, epoch, epochs)


@dataclass(frozen=True)
class Schedule:
    """Where a supernet training stands in its search.

    restart: rule of the learning rate; iteration: number of the outer iteration; chance: seed of what steps draw in
    several processes (None: the run's).
    """

    restart: str = "restart"
    iteration: int = 0
    chance: int | None = None


def train_supernet(
    run: Run, c: SupernetTraining, supernet: Supernet, optimizer: torch.optim.Optimizer, paths: Sampler,
    batches: Batches, schedule: Schedule,
) -> Iterator[tuple[int, float, Metrics]]:  # fmt: skip
    """Each step: a ~ p, forward along a, cross entropy, clip, SGD (Method 3); yields (epoch, rate, metrics) after each.

    The step counter of drop path and the learning rate start anew; weights, momentum and statistics are the caller's.
    """
    counter = TopK(batches.images.labels.device)
    run.keeps(supernet_counter=counter)
    for epoch in run.epochs(c.epochs):
        rate = learning_rate(schedule.restart, schedule.iteration, epoch, c.epochs, c.lr, c.lr_min)
        for group in optimizer.param_groups:
            group["lr"] = rate
        supernet.train()
        number = schedule.iteration * c.epochs + epoch
        for step, shares in run.steps(batches.in_shares(), number):
            if schedule.chance is not None:
                seeds.step_chance(schedule.chance, epoch, step)
            set_step(supernet, epoch * len(batches) + step)
            supernet_step(
                supernet, paths.next(), shares, optimizer, c.clip, c.zero_grad, run.options.precision, counter
            )
        yield epoch, rate, read(counter)


def supernet_step(
    network: Supernet, architecture: Architecture, batch: Any, optimizer: torch.optim.Optimizer, clip_norm: float,
    zero_grad: str, precision: str = "fp32", counter: TopK | None = None,
) -> Any:  # fmt: skip
    """One SGD step along one path; returns the mean loss of the batch, on a GPU as a tensor [].

    batch: (images, labels), or a list of such shares. zero_grad: ``zeros`` keeps the gradients of parameters used
    earlier as zeros, so that momentum and decay move them (torch 1, the published run); a parameter never used has none
    yet. ``none``: unused parameters stand still. All processes run the same path. Raises UserError for a loss that is
    not finite.
    """

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        with autocast(images.device, precision):
            logits = network(images, architecture)
        loss = F.cross_entropy(logits.float(), labels)
        if counter is not None:
            counter.add(logits, labels, loss)
        return loss

    optimizer.zero_grad(set_to_none=zero_grad == "none")
    parameters = trained_by(optimizer)
    loss = gradients(network, batch, loss_of, parameters, architecture=str(architecture))
    clip(parameters, clip_norm)
    optimizer.step()
    return loss


@torch.inference_mode()
def score(
    network: Supernet, architecture: Architecture, batches: list[tuple[Tensor, Tensor]], precision: str = "fp32"
) -> float:
    """Accuracy (fraction) along a path: eval mode, but the path's BNs use the statistics of each batch (Method 4)."""
    network.eval()
    right = images = 0
    for x, y in batches:
        with autocast(x.device, precision):
            right = right + (network(x, architecture, True).argmax(1) == y).sum()
        images += len(y)
    return float(right) / images


class Scorer:
    """Scores of architectures along their paths: each on a random validation batch of its own, or all on all images."""

    def __init__(self, valid: Images, score_images: int, seed: int, precision: str = "fp32") -> None:
        """score_images: images of the random batch, a function of (seed, iteration, number); 0: all of ``valid``."""
        self.valid, self.score_images, self.seed, self.precision = valid, score_images, seed, precision
        self.whole = [] if score_images else all_batches(valid)

    def __call__(self, network: Supernet, iteration: int, number: int, architecture: Architecture) -> float:
        """Accuracy (fraction) of the ``number``-th architecture of an iteration; the same in whichever process."""
        batches = self.whole or [validation_batch(self.valid, self.score_images, self.seed, iteration, number)]
        return score(network, architecture, batches, self.precision)
