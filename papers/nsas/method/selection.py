"""Choosing the cell after training: accuracies with shared weights on the selection part (Method 5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from common.data.batches import Batches
from common.run import distributed, seeds
from common.run.progress import shows
from papers.nsas.method.sampling import Architecture, Sampler
from papers.nsas.networks.paths import Logits
from papers.nsas.networks.supernet import renew_statistics


@torch.no_grad()
def accuracy(model: nn.Module, architecture: Architecture, logits_of: Logits, valid: Batches, number: int) -> float:
    """Percent on the whole selection part in eval mode, running values as they are.

    number: names the crops and flips, which each evaluation draws anew, as the released loader did.
    """
    model.eval()
    right = 0
    for x, y in shows(valid, "select", number):
        if len(y):  # a process may have no image of the last batch
            right += int((logits_of(model, x, architecture).argmax(1) == y).sum())
    return 100.0 * distributed.summed(right)[0] / len(valid.images)


def recalibrate(model: nn.Module, architecture: Architecture, logits_of: Logits, train: Batches, batches: int) -> None:
    """Batch-norm statistics of one architecture: the plain average over the first ``batches`` training batches."""
    renew_statistics(model, lambda x: logits_of(model, x, architecture), train, batches)


def candidates(draw: Sampler, rounds: int, count: int, seed: int) -> list[Architecture]:
    """``count`` fresh random architectures for each round, round after round."""
    drawn: list[Architecture] = []
    for number in range(rounds):
        rng = seeds.numpy_rng(seed, "select", number)
        drawn += [(draw(rng), draw(rng)) for _ in range(count)]
    return drawn


def winners(
    architectures: Sequence[Architecture], scores: Sequence[float], count: int
) -> list[tuple[Architecture, float]]:
    """The best of each round of ``count`` (the first of equals) with its score."""
    best = []
    for start in range(0, len(architectures), count):
        place = max(range(start, start + count), key=scores.__getitem__)
        best.append((architectures[place], scores[place]))
    return best
