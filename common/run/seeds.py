"""Stateless randomness: a stream is a function of (seed, names), so resuming needs no generator state."""

from __future__ import annotations

import hashlib
import random
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def digest(seed: int, *names: str | int) -> bytes:
    """64 bytes that depend on the seed and the names only (stable across processes and versions)."""
    plain = tuple(int(n) if isinstance(n, Integral) else str(n) for n in names)  # NumPy integers print differently
    return hashlib.blake2b(repr((int(seed), *plain)).encode()).digest()


def integer(seed: int, *names: str | int) -> int:
    """A 63-bit integer from (seed, names)."""
    return int.from_bytes(digest(seed, *names)[:8], "little") >> 1


def generator(seed: int, *names: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator on ``device`` whose stream belongs to (seed, names)."""
    import torch

    return torch.Generator(device=device).manual_seed(integer(seed, *names))


def numpy_rng(seed: int, *names: str | int) -> np.random.RandomState:
    """A legacy NumPy generator (the authors' kind) whose stream belongs to (seed, names)."""
    return np.random.RandomState(np.frombuffer(digest(seed, *names)[:32], dtype="<u4").astype(np.uint32))


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices): for initialisation and whatever takes no generator."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def step_chance(seed: int, epoch: int, step: int) -> None:
    """Make what a training step draws (drop path, dropout, noise) a function of (seed, rank, epoch, step).

    Called at the top of every step. In several processes torch's global generators start anew, differently in each
    process; one process keeps its one stream, which a run's state saves. What all processes must draw alike comes from
    ``generator`` or ``numpy_rng``, which do not know the rank.
    """
    from common.run import distributed

    if distributed.world_size() > 1:
        import torch

        torch.manual_seed(integer(seed, "step", distributed.rank(), epoch, step))
