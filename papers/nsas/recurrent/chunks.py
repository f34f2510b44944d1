"""Chunks of text: their lengths, their learning rate, the loss of an epoch and of an evaluation (Method 13).

A batched text [N, B] is read by rows; its B columns are what a batch of images is elsewhere: each process takes some of
them through the whole text, gradients are means over all columns, and chance is drawn for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.data.text import Corpus
from common.run import distributed
from common.run.distributed import Sharing
from common.run.progress import watched
from papers.nsas.recurrent.loss import Chunk
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

    fixed: the rule of the search. A length drawn near the end may reach beyond it, as released: the learning rate is
    scaled by the drawn length, and the chunk has what is left.
    """
    chunks, start = [], 0
    while start < rows - 1 - 1:
        uniform = rng.random_sample()
        length = search_chunk_length(uniform, base) if fixed else chunk_length(uniform, rng.normal, base)
        chunks.append((start, length))
        start += length
    return chunks


def scaled(lr: float, length: int, base: int) -> float:
    """The step's lr: lr * length / base. Under averaged SGD it acts one step late (see ``make_asgd``)."""
    return lr * length / base


@torch.no_grad()
def text_loss(model: LanguageModel, stream: Tensor, bptt: int = 35) -> float:
    """loss = sum(mean NLL of a chunk * its length) / number of rows (one more than the predictions: as released).

    Several processes share the columns of ``stream`` [N, B] out; all get the mean.
    """
    model.eval()
    limits = distributed.per_process().limits(stream.shape[1])
    mine, total = stream[:, limits[0] : limits[-1]], 0.0
    hidden = model.start(mine.shape[1])
    starts = range(0, len(mine) - 1, bptt) if mine.shape[1] else range(0)
    for start in watched(starts, len(starts), "text"):
        words, targets = get_batch(mine, start, bptt)
        hidden, _, output = model.outputs(words, hidden)
        total += float(model.loss(output, targets)) * len(words)
    mean = torch.tensor([total], dtype=torch.float64)
    distributed.all_reduce_mean([mean], weight=mine.shape[1])
    return float(mean) / len(stream)


def perplexity(loss: float) -> float:
    """exp(loss); infinite instead of an overflow."""
    return math.exp(loss) if loss < 700 else math.inf


def unigram_perplexity(corpus: Corpus) -> float:
    """Test perplexity of word frequencies counted on the training text (one added to each count): the bar to beat."""
    counts = torch.bincount(corpus.train, minlength=corpus.types).double() + 1
    logs = (counts / counts.sum()).log()
    return perplexity(-logs[corpus.test].mean().item())


class Mean:
    """The mean loss of an epoch, weighted by rows; emptied when read, so that a run may keep it."""

    total: Any

    def __init__(self) -> None:
        self.total, self.rows = 0.0, 0

    def add(self, loss: Any, rows: int) -> None:
        """A chunk of ``rows`` time steps, its loss a number or a tensor []."""
        self.total, self.rows = self.total + loss * rows, self.rows + rows

    def read(self) -> float:
        """The mean so far; 0 where nothing was added."""
        mean = float(self.total) / max(1, self.rows)
        self.total, self.rows = 0.0, 0
        return mean

    def state_dict(self) -> dict[str, float]:
        """The sums so far."""
        return {"total": float(self.total), "rows": self.rows}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from saved sums."""
        vars(self).update(state)


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
