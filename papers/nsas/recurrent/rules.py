"""Rules of recurrent training: chunk lengths, learning rate per chunk, SGD to ASGD, evaluation (sections 5.3, 5.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from papers.nsas.recurrent.model import LanguageModel


def chunk_length(uniform: float, normal: Callable[[float, float], float], base: int = 35) -> int:
    """base with probability 0.95, else base / 2; n = int(normal(that, 5)); min(max(5, n), base + 20)."""
    centre = base if uniform < 0.95 else base / 2.0
    return min(max(5, int(normal(centre, 5))), base + 20)


def search_chunk_length(uniform: float, base: int = 35) -> int:
    """The search loop draws only 35 or 17."""
    return base if uniform < 0.95 else base // 2


def get_batch(stream: Tensor, start: int, length: int) -> tuple[Tensor, Tensor]:
    """Rows [start, start + length) of a batched stream [N, B] and the rows one later; the last chunk is shorter."""
    length = min(length, len(stream) - 1 - start)
    return stream[start : start + length], stream[start + 1 : start + 1 + length]


def epoch_chunks(rows: int, base: int, rng: np.random.RandomState, fixed: bool = False) -> list[tuple[int, int]]:
    """(start, length) of every chunk of an epoch over ``rows`` rows (a target needs the next row).

    ``fixed`` is the search loop's rule.  As released, a length drawn near the end may reach beyond it: the learning
    rate is scaled by the drawn length, the data by what is left.
    """
    chunks, start = [], 0
    while start < rows - 1 - 1:
        uniform = rng.random_sample()
        length = search_chunk_length(uniform, base) if fixed else chunk_length(uniform, rng.normal, base)
        chunks.append((start, length))
        start += length
    return chunks


def scaled(lr: float, length: int, base: int) -> float:
    """The step's lr: lr * length / base.  Under ASGD it acts one step late (eta is computed at the end of a step)."""
    return lr * length / base


def switches_to_averaging(earlier: Sequence[float], loss: float, nonmono: int = 5) -> bool:
    """More than ``nonmono`` earlier validation losses,
    and this one exceeds the minimum of all but the last ``nonmono``.
    """
    return len(earlier) > nonmono and loss > min(earlier[:-nonmono])


def make_sgd(model: torch.nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Plain SGD."""
    return torch.optim.SGD(model.parameters(), lr=lr, weight_decay=weight_decay)


def make_asgd(model: torch.nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """ASGD with t0 = 0, lambd = 0: SGD plus a running mean of the weights from its first step."""
    return torch.optim.ASGD(model.parameters(), lr=lr, t0=0, lambd=0.0, weight_decay=weight_decay)


class averaged:
    """``with averaged(model, optimizer):`` the model holds the averaged weights (ASGD phase),
    afterwards its own again.
    """

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer):
        self.model, self.optimizer, self.kept = model, optimizer, []

    def __enter__(self) -> None:
        if isinstance(self.optimizer, torch.optim.ASGD):
            for p in self.model.parameters():
                if "ax" in self.optimizer.state.get(p, {}):
                    self.kept.append((p, p.data))
                    p.data = self.optimizer.state[p]["ax"].clone()

    def __exit__(self, *_) -> None:
        for p, value in self.kept:
            p.data = value
        self.kept = []


@torch.no_grad()
def evaluate(model: LanguageModel, stream: Tensor, bptt: int = 35) -> float:
    """loss = sum(mean NLL of a chunk * its length) / number of rows (one more than the predictions: as released)."""
    model.eval()
    hidden, total = model.start(stream.shape[1]), 0.0
    for start in range(0, len(stream) - 1, bptt):
        words, targets = get_batch(stream, start, bptt)
        hidden, _, output = model.outputs(words, hidden)
        total += float(model.loss(output, targets)) * len(words)
    return total / len(stream)


def perplexity(loss: float) -> float:
    """exp(loss); infinite instead of an overflow."""
    return math.exp(loss) if loss < 700 else math.inf
