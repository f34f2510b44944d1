"""The prioritized path board."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from common.cli.errors import UserError
from papers.cream.network.architectures import Path


@dataclass(frozen=True)
class Entry:
    """A path on the board.

    score: top-1 in percent on its training batch, before that iteration's update; flops in millions.
    images, soft: for each part of the batch this process holds, its first ``slice`` pictures [slice, 3, H, W] and the
    probabilities [slice, classes] stored with them.
    """

    score: float
    flops: float
    path: Path
    images: list[Tensor] = field(default_factory=list)
    soft: list[Tensor] = field(default_factory=list)

    @property
    def rank(self) -> tuple[float, float, Path]:
        """Higher ranks first: by score, then the dearer path, then the path itself."""
        return (self.score, self.flops, self.path)


class Board:
    """At most ``size`` paths, best first. gap: percentage points by which a dearer path must beat the last entry."""

    def __init__(self, size: int = 10, gap: float = 5.0, start_epoch: int = 20) -> None:
        self.size, self.gap, self.start_epoch = size, gap, start_epoch
        self.entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self.entries)

    def admits(self, epoch: int, score: float, flops: float) -> bool:
        """Whether a path would enter: room, or better than the last entry by the gap, or better and cheaper."""
        if epoch <= self.start_epoch:
            return False
        if len(self.entries) < self.size:
            return True
        worst = self.entries[-1]
        return score > worst.score + self.gap or (score > worst.score and flops < worst.flops)

    def add(self, entry: Entry) -> None:
        """Insert, sort, drop the last when over size. Raises UserError for a score that is not a number."""
        if not math.isfinite(entry.score) or not math.isfinite(entry.flops):
            raise UserError(f"the board was offered a score of {entry.score}: the supernet has diverged; lower --lr")
        self.entries.append(entry)
        self.entries.sort(key=lambda item: item.rank, reverse=True)
        del self.entries[self.size :]

    def rows(self) -> list[dict[str, Any]]:
        """The board without its tensors, best first."""
        return [{"score": entry.score, "mflops": entry.flops, "path": entry.path} for entry in self.entries]

    def state_dict(self) -> dict[str, Any]:
        fields = ("score", "flops", "path", "images", "soft")
        return {"entries": [{name: getattr(entry, name) for name in fields} for entry in self.entries]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.entries = [Entry(**entry) for entry in state["entries"]]
