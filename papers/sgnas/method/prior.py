"""Priors: random architectures of known cost that the generator starts from (section 3.3 of the paper)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.cli.errors import UserError
from papers.sgnas.method.lookup import Lookup, cost_of_ops, one_hot
from papers.sgnas.network.architectures import KERNEL_SIZES, MIN_EXPANSION, OPS, SKIP, SUB_BLOCKS, Ops

SCHEMA = 1
TOLERANCE = 1.0  # MFLOPs
MAX_DRAWS = 20_000


def prior_keys(low: float, high: float, pool_size: int) -> list[float]:
    """low + interval, low + 2 interval, … below high - 1, with interval = (high - low) // (pool_size + 1).

    Integer division can give more keys than ``pool_size``. A range too narrow for it (milliseconds, say) is divided
    evenly. Raises UserError for a pool of no priors.
    """
    if pool_size < 1:
        raise UserError(f"--pool-size {pool_size}: the generator needs at least one prior")
    interval = (high - low) // (pool_size + 1)
    if interval <= 0:
        return [low + (high - low) * (i + 1) / (pool_size + 1) for i in range(pool_size)]
    keys, key = [], low + interval
    while key < high - 1:
        keys.append(key)
        key += interval
    return keys or [(low + high) / 2]


def draw_candidate(rng: np.random.RandomState, layers: int) -> Ops:
    """Expansions uniform in 2..6 in one call, then kernels one by one for the first e sub-blocks of each layer."""
    expansions = rng.randint(MIN_EXPANSION, SUB_BLOCKS + 1, size=layers)
    ops = []
    for expansion in expansions:
        kernels = [int(rng.randint(0, len(KERNEL_SIZES))) for _ in range(expansion)]
        ops.append(kernels + [SKIP] * (SUB_BLOCKS - len(kernels)))
    return ops


def draw_prior(lookup: Lookup, key: float, rng: np.random.RandomState, tolerance: float = TOLERANCE) -> Ops:
    """The first candidate within ``tolerance`` of ``key``. Raises UserError when there is none in 20,000 draws."""
    for _ in range(MAX_DRAWS):
        ops = draw_candidate(rng, len(lookup.expand))
        if abs(cost_of_ops(lookup, ops) - key) <= tolerance:
            return ops
    raise UserError(
        f"no random architecture within {tolerance:g} of {key:g} {lookup.unit}; put --low and --high where random "
        f"architectures are, or raise --prior-tolerance"
    )


@dataclass(frozen=True)
class PriorPool:
    """Priors by key (ascending), with the range and the table they were made for."""

    priors: dict[float, torch.Tensor]  # key -> float32 [L, 24]
    low: float
    high: float
    table: str  # Lookup.fingerprint(); "" for the authors' files, which do not say

    def nearest(self, target: float) -> torch.Tensor:
        """The prior whose key is nearest to the target; the first one on a tie."""
        return self.priors[nearest_key(target, list(self.priors))]

    def check(self, low: float, high: float, lookup: Lookup) -> None:
        """Refuse a pool that was made for another range, table or number of layers. Raises UserError."""
        layers = next(iter(self.priors.values())).shape[0]
        if layers != len(lookup.expand):
            raise UserError(
                f"the prior pool has {layers} layers, this space {len(lookup.expand)}; use the pool of this space"
            )
        if (self.low, self.high) != (low, high):
            raise UserError(
                f"the prior pool was made for {self.low:g} to {self.high:g}, the settings say {low:g} to {high:g}; "
                f"remove it or use the same --low and --high"
            )
        if self.table and self.table != lookup.fingerprint():
            raise UserError(
                "the prior pool was made for another look-up table; remove it or use the settings it was made with"
            )

    def to_json(self) -> dict[str, Any]:
        priors = {f"{key:g}": prior.int().tolist() for key, prior in self.priors.items()}
        return {"schema": SCHEMA, "low": self.low, "high": self.high, "table": self.table, "priors": priors}


def nearest_key(target: float, keys: list[float]) -> float:
    """The key nearest to the target, the first one on a tie."""
    return min(keys, key=lambda key: abs(key - target))


def make_pool(
    lookup: Lookup, low: float, high: float, size: int, rng: np.random.RandomState, tolerance: float = TOLERANCE
) -> PriorPool:
    """Draw a pool of priors."""
    priors = {
        float(key): one_hot(torch.tensor(draw_prior(lookup, key, rng, tolerance))).view(-1, SUB_BLOCKS * OPS)
        for key in prior_keys(low, high, size)
    }
    return PriorPool(priors, float(low), float(high), lookup.fingerprint())


def read_pool(path: Path, low: float | None = None, high: float | None = None) -> PriorPool:
    """Read our format, or the authors' plain ``{key: matrix}`` (whose range must then be given). Raises UserError."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no readable prior pool: {' '.join(str(error).split())}") from None
    return pool_from(content, str(path), low, high)


def pool_from(content: Any, where: str, low: float | None = None, high: float | None = None) -> PriorPool:
    """A pool from its JSON content. Raises UserError."""
    own = isinstance(content, dict) and "priors" in content
    try:
        table = content["table"] if own else ""
        low, high = (content["low"], content["high"]) if own else (low, high)
        entries = content["priors"] if own else content
        priors = {float(key): torch.tensor(matrix, dtype=torch.float32) for key, matrix in entries.items()}
        fits = priors and all(prior.shape[1:] == (SUB_BLOCKS * OPS,) for prior in priors.values())
    except (KeyError, TypeError, ValueError, AttributeError):
        fits = False
    if not fits or low is None or high is None:
        raise UserError(f"{where} is no prior pool: expected keys with matrices of {SUB_BLOCKS * OPS} columns")
    return PriorPool(dict(sorted(priors.items())), float(low), float(high), table)
