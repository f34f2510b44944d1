"""What the generator is trained with and judged by (Methods 6 and 7). The supernet is a fixed function here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from common.run import seeds
from common.run.device import exact
from common.run.folder import say
from common.run.keep import Values
from common.train.losses import label_smoothing_cross_entropy
from common.train.metrics import kendall_tau
from papers.sgnas.method.generator import Generator, arg_max_ops
from papers.sgnas.method.lookup import Lookup, hardware_loss, one_hot
from papers.sgnas.method.prior import PriorPool
from papers.sgnas.method.sampling import trained_parameters
from papers.sgnas.networks.fixed_supernet import FixedSupernet


def build_optimizer(generator: Generator, lr: float = 0.001) -> torch.optim.Adam:
    """Adam, betas (0.5, 0.999), no decay, constant rate."""
    return torch.optim.Adam(generator.parameters(), lr, betas=(0.5, 0.999))


def temperature(epoch: int, start: float = 5.0, decay: float = 0.95) -> float:
    """tau of a generator epoch: start decay^epoch."""
    return start * decay**epoch


def target_pool(low: float, high: float, step: float) -> list[float]:
    """low, low + step, … below high."""
    return [low + i * step for i in range(int(np.ceil((high - low) / step)))]


def targets_of_step(pool: Sequence[float], noise: float, count: int, seed: int, step: int) -> list[float]:
    """The ``count`` targets of step ``step``: the next of a pool, reshuffled when used up, plus U(-noise, noise)."""
    targets = []
    for number in range(step * count, (step + 1) * count):
        order = seeds.numpy_rng(seed, "target pool", number // len(pool)).permutation(len(pool))
        jitter = seeds.numpy_rng(seed, "target noise", number).uniform(-noise, noise)
        targets.append(pool[order[number % len(pool)]] + float(jitter))
    return targets


def accuracy_loss(
    fixed: FixedSupernet, x: torch.Tensor, y: torch.Tensor, p: torch.Tensor, smoothing: float, active: str
) -> torch.Tensor:
    """Smoothed cross-entropy of supernet(x; p), the mean over the architecture parameters p [T, L, 6, 4] of T targets.

    x [N, 3, H, W], y int64 [N]. active: how the supernet's paths were sampled, which decides the code it knows an
    architecture under (``trained_parameters``).
    """
    losses = [
        label_smoothing_cross_entropy(fixed.soft(x, trained_parameters(each, active)), y, smoothing) for each in p
    ]
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()


@torch.no_grad()
def generate_ops(
    generator: Generator, pool: PriorPool, targets: list[float], device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Operation indices int64 [T, L, 6] for all targets in one pass."""
    return arg_max_ops(generator(*pool.inputs(targets, device)))


@dataclass(frozen=True)
class Fit:
    """How well a generator meets its targets on the validation grid."""

    total: float
    kendall: float
    targets: list[float]
    costs: list[float]

    def to_json(self) -> dict[str, Any]:
        """What best_fit.json holds."""
        return {"targets": self.targets, "costs": self.costs, "total": self.total}


def fit_to_targets(
    generator: Generator, lookup: Lookup, pool: PriorPool, step: float, alpha: float = 0.0003, penalty: float = 1.2
) -> Fit:
    """Total hardware loss of the arg-max networks over low, low + step, …, and Kendall's tau of target and cost."""
    targets = target_pool(pool.low, pool.high, step)
    device = next(generator.parameters()).device
    costs = lookup.cost(one_hot(generate_ops(generator, pool, targets, device)))
    wanted = torch.tensor(targets, device=device)
    total = hardware_loss(costs, wanted, alpha, penalty, pool.margin(lookup)).to(exact(device)).sum()
    values = costs.tolist()
    return Fit(float(total), kendall_tau(targets, values), targets, values)


class Best(Values):
    """The generators that may be chosen: that of the lowest total hardware loss, and the "best average": that of the
    lowest error among those whose total is below a bound.
    """

    total: float
    error: float
    epoch: int
    generator: dict[str, torch.Tensor] | None
    average: dict[str, torch.Tensor] | None

    def __init__(self) -> None:
        super().__init__(total=float("inf"), error=float("inf"), epoch=-1, generator=None, average=None)

    def look(self, generator: Generator, epoch: int, fit: Fit, error: float, accept_loss: float) -> bool:
        """Take the generator of an epoch where it is better; whether its total hardware loss is the lowest so far."""
        weights = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
        if error < self.error and fit.total < accept_loss:
            self.error, self.average, self.epoch = error, weights, epoch
        if lowest := fit.total < self.total:
            self.total, self.generator = fit.total, weights
        return lowest

    def chosen(self, generator: Generator, accept_loss: float) -> Generator:
        """``generator`` with the weights of the best average, else of the lowest total hardware loss."""
        if self.average is None:
            say(f"note: no epoch had a total hardware loss below {accept_loss:g}; the one with the lowest is used")
        generator.load_state_dict(self.average or self.generator or {})
        return generator
