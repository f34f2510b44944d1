"""The NSAS loss on a chunk of text, as the paper means it and as it was released (Method 12).

L(w) = (1 - eps) L(w; a_t) + (eps / M) sum_i L(w; a_i),   L = NLL + beta * temporal activation penalty
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.run import distributed
from common.run.device import exact
from common.train.loop import gradients_of_terms
from papers.nsas.recurrent.model import LanguageModel, Masks, activation_penalty
from papers.nsas.recurrent.supernet import RecurrentCode


class Chunk(NamedTuple):
    """words and targets [T, B]; what its dropout masks are drawn from, pass by pass.

    columns, batch: which columns of a batch of ``batch`` these are (none: all); masks are drawn for the whole batch.
    """

    words: Tensor
    targets: Tensor
    generator: torch.Generator
    columns: slice | None = None
    batch: int = 0

    def masks(self, model: LanguageModel) -> Masks:
        """The masks of one pass over these columns."""
        masks = model.masks(self.batch or self.words.shape[1], self.generator)
        return masks if self.columns is None else masks.of(self.columns)


# (supernet, chunk, current cell, constraints, hidden states, eps, beta) -> (loss, NLL of the current cell), without
# graph: the gradient is left in the parameters, the hidden states are advanced in place
Loss = Callable[
    [LanguageModel, Chunk, RecurrentCode, Sequence[RecurrentCode], list[Tensor], float, float], tuple[Tensor, Tensor]
]


def pass_loss(
    model: LanguageModel, chunk: Chunk, hidden: list[Tensor], slot: int, beta: float
) -> tuple[Tensor, Tensor]:
    """(NLL, L) of the supernet's present cell on the chunk; advances hidden state ``slot`` [1, B, H].

    No gradient crosses a pass: neither from chunk to chunk, nor between the constraints of one chunk.
    """
    masks = chunk.masks(model)
    after, raw, dropped = model.outputs(chunk.words, hidden[slot], masks)
    hidden[slot] = after.detach()
    nll = model.loss(dropped, chunk.targets)
    return nll, nll + activation_penalty(raw, dropped, 0.0, beta)


def paper_loss(
    model: LanguageModel, chunk: Chunk, code: RecurrentCode, constraints: Sequence[RecurrentCode],
    hidden: list[Tensor], mix: float, beta: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A hidden state for the current cell and one for each constraint, a gradient through every term.

    Each term is differentiated at once, so that one graph lives at a time.
    """
    cell = model.cell
    cell.set_path(code)
    nll, loss = pass_loss(model, chunk, hidden, 0, beta)
    total = (1 - mix if constraints else 1.0) * loss
    total.backward()
    total = total.detach()
    for number, member in enumerate(constraints):
        cell.set_path(member)
        _, loss = pass_loss(model, chunk, hidden, number + 1, beta)
        term = mix / len(constraints) * loss
        term.backward()
        total = total + term.detach()
    return total, nll.detach()


def released_loss(
    model: LanguageModel, chunk: Chunk, code: RecurrentCode, constraints: Sequence[RecurrentCode],
    hidden: list[Tensor], mix: float, beta: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(1 - eps) L + eps * 2 L_last / M: one mixture throughout, one hidden state, which every pass advances.

    ``code`` never reaches the cell. The passes between the first and the last move only the hidden state and the
    batch-norm values.
    """
    nll, loss = pass_loss(model, chunk, hidden, 0, beta)
    total = (1 - mix) * loss
    total.backward()
    total = total.detach()
    members = len(constraints)
    for number in range(members):
        last = number == members - 1
        with torch.set_grad_enabled(last):
            _, loss = pass_loss(model, chunk, hidden, 0, beta)
        if last:
            term = mix * 2 * loss / members
            term.backward()
            total = total + term.detach()
    return total, nll.detach()


def differentiate(
    loss_of: Loss, model: LanguageModel, shares: list[tuple[tuple[Chunk, list[Tensor]], range]],
    cells: tuple[RecurrentCode, Sequence[RecurrentCode]], mix: float, beta: float, **where: Any,
) -> Tensor:  # fmt: skip
    """The gradients of a step's loss over the columns of all processes, in ``.grad``; the NLL [] of the current cell.

    shares: this process's (``Hidden.shares``). A loss that is not finite raises UserError, which says ``where``.
    """
    (code, constraints), device = cells, next(model.parameters()).device
    mean = torch.zeros(1, dtype=exact(device), device=device)
    columns = sum(len(places) for _, places in shares)

    def terms(share: tuple[Chunk, list[Tensor]], places: range) -> Tensor:
        chunk, hidden = share
        loss, nll = loss_of(model, chunk, code, constraints, hidden, mix, beta)
        mean.add_(nll.to(mean) * len(places) / columns)
        return loss

    gradients_of_terms(model, shares, terms, **where)
    distributed.all_reduce_mean([mean], weight=columns)
    return mean[0]
