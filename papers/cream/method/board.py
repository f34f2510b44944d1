"""The prioritized path board (Method 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from common.run import distributed
from papers.cream.networks.architectures import ChoicePath


@dataclass(frozen=True)
class Entry:
    """A path on the board.

    score: top-1 in percent on its training batch, before that iteration's update; flops in millions.
    images, soft: for each share of the batch this process holds, its first ``slice`` pictures [slice, 3, H, W] and the
    probabilities [slice, classes] stored with them.
    """

    score: float
    flops: float
    path: ChoicePath
    images: list[Tensor] = field(default_factory=list)
    soft: list[Tensor] = field(default_factory=list)

    @property
    def rank(self) -> tuple[float, float, ChoicePath]:
        """Higher ranks first: by score, then the dearer path, then the path itself."""
        return (self.score, self.flops, self.path)


class Board:
    """At most ``size`` paths, best first. gap: percentage points by which a dearer path must beat the last entry.

    Every process holds the images of its own shares; a saved state holds those of all.
    """

    def __init__(self, size: int = 10, gap: float = 5.0) -> None:
        self.size, self.gap = size, gap
        self.entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self.entries)

    def admits(self, score: float, flops: float) -> bool:
        """Whether a path would enter: room, or better than the last entry by the gap, or better and cheaper."""
        if len(self.entries) < self.size:
            return True
        worst = self.entries[-1]
        return score > worst.score + self.gap or (score > worst.score and flops < worst.flops)

    def offer(self, entry: Entry) -> bool:
        """Take an entry in if it is admitted; whether it was."""
        if not self.admits(entry.score, entry.flops):
            return False
        self.add(entry)
        return True

    def add(self, entry: Entry) -> None:
        """Insert a copy, sort, drop the last when over size. Raises UserError for a score that is not a number."""
        if not math.isfinite(entry.score) or not math.isfinite(entry.flops):
            raise UserError(f"the board was offered a score of {entry.score}: the supernet has diverged; lower --lr")
        images, soft = [x.clone() for x in entry.images], [q.clone() for q in entry.soft]
        self.entries.append(Entry(entry.score, entry.flops, entry.path, images, soft))
        self.entries.sort(key=lambda item: item.rank, reverse=True)
        del self.entries[self.size :]

    def rows(self) -> list[dict[str, Any]]:
        """The board without its tensors, best first."""
        return [{"score": entry.score, "mflops": entry.flops, "path": entry.path} for entry in self.entries]

    def summary(self) -> dict[str, Any]:
        """Columns of the history: its size, score and cost of its head."""
        head = self.entries[0] if self.entries else None
        return {
            "board": len(self), "board_best": head.score if head else None,
            "board_best_mflops": head.flops if head else None,
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """The entries with the images and probabilities of every process (a common act of all of them)."""
        return {
            "entries": [
                {"score": entry.score, "flops": entry.flops, "path": entry.path, "images": _everyone(entry.images),
                 "soft": _everyone(entry.soft)} for entry in self.entries
            ]
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take this process's shares out of a saved state."""
        self.entries = []
        for entry in state["entries"]:
            count = len(entry["images"]) // distributed.world_size()
            own = slice(distributed.rank() * count, (distributed.rank() + 1) * count)
            # gathering loses the memory format, in which a convolution rounds differently
            images = [x.contiguous(memory_format=torch.channels_last) for x in entry["images"][own]]
            self.entries.append(Entry(entry["score"], entry["flops"], entry["path"], images, entry["soft"][own]))


def _everyone(tensors: list[Tensor]) -> list[Tensor]:
    """The shares of all processes, process by process."""
    if distributed.world_size() == 1:
        return tensors
    import torch.distributed as dist

    mine = torch.stack(tensors).contiguous()
    gathered = [torch.empty_like(mine) for _ in range(distributed.world_size())]
    dist.all_gather(gathered, mine)
    return [part for parts in gathered for part in parts]
