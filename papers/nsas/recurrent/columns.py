"""Columns of the text, shared out over processes, and the hidden states that belong to them.

A batched text [N, B] is read by rows; its B columns are what a batch of images is elsewhere: each process takes some of
them through the whole text, gradients are means over all columns, and chance is drawn for all of them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from common.run import distributed
from common.run.distributed import Sharing
from papers.nsas.recurrent.loss import Chunk
from papers.nsas.recurrent.model import LanguageModel


class Hidden:
    """The hidden states [1, B, H] of ``slots`` passes, for this process's shares of ``count`` columns; zeros at first.

    places: the columns of each share. of: for each share the states of its slots, which a loss moves on in place. A
    saved state holds all columns.
    """

    def __init__(self, model: LanguageModel, count: int, slots: int = 1, sharing: Sharing = Sharing()) -> None:
        self.model, self.count, self.slots = model, count, slots
        self.places = [slice(start, end) for start, end in pairwise(sharing.limits(count))]
        self.of: list[list[Tensor]] = []
        self.restart()

    def restart(self) -> None:
        """Zeros, as at the beginning of the text."""
        self.of = [self.model.starts(place.stop - place.start, self.slots) for place in self.places]

    def shares(self, words: Tensor, targets: Tensor, generator: Any) -> list[tuple[tuple[Chunk, list[Tensor]], range]]:
        """((chunk, hidden states of the slots), columns) of each share of words and targets [T, B].

        generator: () -> what the masks are drawn from, anew for every share.
        """
        return [
            ((Chunk(words[:, c], targets[:, c], generator(), c, self.count), states), range(c.start, c.stop))
            for c, states in zip(self.places, self.of, strict=True)
        ]

    def state_dict(self) -> dict[str, list[Tensor]]:
        """The states of all columns (in several processes a common act of all)."""
        mine = [torch.cat(same, 1) for same in zip(*self.of, strict=True)]
        if distributed.world_size() == 1:
            return {"hidden": mine}
        everyone = distributed.gather([state.cpu() for state in mine])
        return {"hidden": [torch.cat(same, 1) for same in zip(*everyone, strict=True)]}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Take this process's columns out of a saved state."""
        device = self.model.encoder.weight.device
        whole = [each.to(device) for each in state["hidden"]]
        self.of = [[each[:, place].clone() for each in whole] for place in self.places]
