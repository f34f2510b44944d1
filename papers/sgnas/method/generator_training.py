"""Generator training and validation (sections 3.3 and 3.5 of the paper). The supernet is a fixed function here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import kendalltau

from common.run import seeds
from common.train.loop import read
from common.train.losses import TopK, label_smoothing_cross_entropy
from papers.sgnas.method.generator import Generator, arg_max_ops, gumbel_softmax, normalise
from papers.sgnas.method.lookup import Lookup, one_hot
from papers.sgnas.method.losses import hardware_loss, margin_of
from papers.sgnas.method.prior import PriorPool
from papers.sgnas.method.sampling import trained_parameters
from papers.sgnas.network.fixed_supernet import FrozenSupernet


def build_optimizer(generator: Generator, lr: float = 0.001) -> torch.optim.Adam:
    """Adam, betas (0.5, 0.999), no decay, constant rate."""
    return torch.optim.Adam(generator.parameters(), lr, betas=(0.5, 0.999))


def target_pool(low: float, high: float, step: float) -> list[float]:
    """low, low + step, … below high."""
    return [low + i * step for i in range(int(np.ceil((high - low) / step)))]


def targets_of_step(
    low: float, high: float, step_size: float, noise: float, count: int, seed: int, step: int
) -> list[float]:
    """The targets of optimiser step number ``step``: the next of a pool that is reshuffled when used up, plus
    U(-0.5, 0.5).
    """
    pool = target_pool(low, high, step_size)
    targets = []
    for number in range(step * count, (step + 1) * count):
        order = seeds.numpy_rng(seed, "target pool", number // len(pool)).permutation(len(pool))
        jitter = seeds.numpy_rng(seed, "target noise", number).uniform(-noise, noise)
        targets.append(pool[order[number % len(pool)]] + float(jitter))
    return targets


@dataclass(frozen=True)
class StepLosses:
    """Means over a step's targets, on the device."""

    cross_entropy: torch.Tensor
    hardware: torch.Tensor
    total: torch.Tensor


def generator_loss(
    frozen: FrozenSupernet,
    generator: Generator,
    lookup: Lookup,
    pool: PriorPool,
    x: torch.Tensor,
    y: torch.Tensor,
    targets: list[float],
    tau: float,
    noise: torch.Tensor,
    alpha: float,
    penalty: float,
    eta: float = 0.1,
    active: str = "random",
) -> StepLosses:
    """L = CE(supernet(x; p), y) + L_hc(F(p), t) with p = Gumbel-softmax(generator(t, prior)), noise [T, L, 6, 4].

    All targets go through the generator in one pass; their losses are averaged. active: how the supernet's paths were
    sampled, which decides the code it knows an architecture under (see ``trained_parameters``).
    """
    device = x.device
    prior = torch.stack([pool.nearest(t) for t in targets]).to(device)
    logits = generator(normalise(torch.tensor(targets), pool.low, pool.high).to(device), prior)
    p = gumbel_softmax(logits, tau, noise.to(device))
    margin = margin_of(lookup.unit, pool.low, pool.high)
    hardware = hardware_loss(lookup.cost(p), torch.tensor(targets, device=device), alpha, penalty, margin).mean()
    losses = [label_smoothing_cross_entropy(frozen.soft(x, trained_parameters(each, active)), y, eta) for each in p]
    cross_entropy = losses[0] if len(losses) == 1 else torch.stack(losses).mean()
    return StepLosses(cross_entropy, hardware, cross_entropy + hardware)


@torch.no_grad()
def generate_ops(
    generator: Generator, pool: PriorPool, targets: list[float], device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Operation indices int64 [T, L, 6] for all targets in one pass."""
    prior = torch.stack([pool.nearest(t) for t in targets]).to(device)
    return arg_max_ops(generator(normalise(torch.tensor(targets), pool.low, pool.high).to(device), prior))


@dataclass(frozen=True)
class Fit:
    """How well a generator meets its targets on the validation grid."""

    total: float
    kendall: float
    targets: list[float]
    costs: list[float]


def kendall(targets: list[float], costs: list[float]) -> float:
    """Kendall's tau; 0 where it is not defined, as all targets give one cost."""
    return float(kendalltau(targets, costs).statistic) if len(set(costs)) > 1 else 0.0


def fit_to_targets(
    generator: Generator, lookup: Lookup, pool: PriorPool, step: float, alpha: float, penalty: float
) -> Fit:
    """Total hardware loss of the arg-max networks over low, low + step, …, and Kendall's tau of target and cost."""
    targets = target_pool(pool.low, pool.high, step)
    device = next(generator.parameters()).device
    costs = lookup.cost(one_hot(generate_ops(generator, pool, targets, device)))
    margin = margin_of(lookup.unit, pool.low, pool.high)
    total = hardware_loss(costs, torch.tensor(targets, device=device), alpha, penalty, margin).double().sum()
    values = costs.tolist()
    return Fit(float(total), kendall(targets, values), targets, values)


@torch.no_grad()
def path_error(
    frozen: FrozenSupernet, ops: list[list[int]], batches: list | object, epoch: int = 0
) -> tuple[float, float]:
    """(mean smoothed loss, top-1 error in percent) of one path over all batches of an epoch and all processes."""
    counter: TopK | None = None
    for x, y in batches.epoch(epoch):  # type: ignore[attr-defined]
        counter = counter or TopK(x.device)
        if len(y):
            logits = frozen.path(x, ops)
            counter.add(logits, y, label_smoothing_cross_entropy(logits, y))
    assert counter is not None
    found = read(counter)
    return found.loss, found.top1_error
