"""Priors: random architectures of known cost that the generator starts from (Method 5)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.errors import UserError
from common.run import distributed
from common.run.files import write_json
from papers.sgnas.method.generator import normalise
from papers.sgnas.method.lookup import MARGIN, MFLOPS, Lookup, cost_of_ops, cost_range, one_hot
from papers.sgnas.networks.architectures import KERNEL_SIZES, MIN_EXPANSION, OPS, SKIP, SUB_BLOCKS, Ops
from papers.sgnas.settings import SearchGenerator

SCHEMA = 1
TOLERANCE = 1.0  # MFLOPs
PUBLISHED_RANGE = 180.0  # MFLOPs from the lowest to the highest target of the published run
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


def random_candidate(rng: np.random.RandomState, layers: int) -> Ops:
    """Expansions uniform in 2..6 in one call, then kernels one by one for the first e sub-blocks of each layer."""
    expansions = rng.randint(MIN_EXPANSION, SUB_BLOCKS + 1, size=layers)
    ops = []
    for expansion in expansions:
        kernels = [int(rng.randint(0, len(KERNEL_SIZES))) for _ in range(expansion)]
        ops.append(kernels + [SKIP] * (SUB_BLOCKS - len(kernels)))
    return ops


def find_prior(lookup: Lookup, key: float, rng: np.random.RandomState, tolerance: float = TOLERANCE) -> Ops:
    """The first candidate within ``tolerance`` of ``key``. Raises UserError when there is none in 20,000 draws."""
    for _ in range(MAX_DRAWS):
        ops = random_candidate(rng, len(lookup.expand))
        if abs(cost_of_ops(lookup, ops) - key) <= tolerance:
            return ops
    raise UserError(
        f"no random architecture within {tolerance:g} of {key:g} {lookup.unit}; put --low-mflops and --high-mflops "
        f"where random architectures are, or raise --prior-tolerance"
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

    def inputs(self, targets: list[float], device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
        """What a generator takes for targets: (t - low) / (high - low) [T], and the nearest priors [T, L, 24]."""
        priors = torch.stack([self.nearest(target) for target in targets])
        return normalise(torch.tensor(targets), self.low, self.high).to(device), priors.to(device)

    def margin(self, lookup: Lookup) -> float:
        """Within what a target counts as met: 0.1 MFLOPs as published; in another unit (milliseconds) the same share of
        the range of targets.
        """
        return MARGIN if lookup.unit == MFLOPS else MARGIN * (self.high - self.low) / PUBLISHED_RANGE

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
                f"remove it or use the same --low-mflops and --high-mflops"
            )
        if self.table and self.table != lookup.fingerprint():
            raise UserError(
                "the prior pool was made for another look-up table; remove it or use the settings it was made with"
            )

    def to_json(self) -> dict[str, Any]:
        """What prior_pool.json holds, as ``pool_from`` reads it."""
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
        float(key): one_hot(torch.tensor(find_prior(lookup, key, rng, tolerance))).view(-1, SUB_BLOCKS * OPS)
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


def prior_pool(folder: Path, c: SearchGenerator, lookup: Lookup) -> PriorPool:
    """The pool named in the settings, the run's own (<folder>/prior_pool.json), or a fresh one that is written there;
    checked against range and table. Raises UserError.
    """
    low, high = c.low_mflops, c.high_mflops
    cheapest, dearest = cost_range(lookup)
    if high < cheapest or low > dearest:
        raise UserError(
            f"targets {low:g} to {high:g} lie outside this space ({cheapest:.1f} to {dearest:.1f} {lookup.unit}); "
            f"choose --low-mflops and --high-mflops inside it"
        )
    own = folder / "prior_pool.json"
    if c.prior_pool or own.exists():
        pool = read_pool(Path(c.prior_pool) if c.prior_pool else own, low, high)
        pool.check(low, high, lookup)
        return pool
    pool = make_pool(lookup, low, high, c.pool_size, np.random.RandomState(c.prior_seed), c.prior_tolerance)
    if distributed.rank() == 0:
        write_json(own, pool.to_json())
    return pool_from(pool.to_json(), str(own))
