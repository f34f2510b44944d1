"""The recurrent language model as a plain module: it starts by itself and puts out logits (Method 11)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from papers.nsas.recurrent.architecture import Recurrent
from papers.nsas.recurrent.model import DerivedCell, Dropouts, LanguageModel, Masks, activation


class PlainCell(DerivedCell):
    """The derived cell node by node."""

    def forward(self, x: Tensor, hidden: Tensor, masks: Masks) -> tuple[Tensor, Tensor]:
        """x [T, B, H], hidden [1, B, H] -> outputs [T, B, H], last hidden [1, B, H]."""
        h, outputs = hidden[0], []
        for step in x.unbind(0):
            step = step if masks.x is None else step * masks.x
            c, g = (torch.cat([step, self._masked(h, masks)], -1) @ self._W0).chunk(2, -1)
            states = [h + torch.sigmoid(c) * (torch.tanh(g) - h)]
            for (name, source), weight in zip(self.recurrent, self._Ws):
                state = states[source]
                c, g = (self._masked(state, masks) @ weight).chunk(2, -1)
                states.append(state + torch.sigmoid(c) * (activation(name, g) - state))
            h = torch.stack([states[i] for i in self.concat]).mean(0)
            outputs.append(h)
        return torch.stack(outputs), outputs[-1].unsqueeze(0)

    @staticmethod
    def _masked(state: Tensor, masks: Masks) -> Tensor:
        return state if masks.hidden is None else state * masks.hidden


class PlainModel(LanguageModel):
    """Words [T, B] -> logits [T, B, V] of the next ones. ``model(words, hidden)`` -> (logits, hidden), where ``hidden``
    [1, B, H] is ``model.start(B)`` or what the last call gave.
    """

    def __init__(self, cell: Recurrent, words: int, width: int) -> None:
        super().__init__(words, width, PlainCell(width, cell.recurrent, cell.concat), Dropouts())

    def forward(self, words: Tensor, hidden: Tensor | None = None) -> Any:  # type: ignore[override]
        """In train mode too without dropout: masks are the trainings' own."""
        start = self.start(words.shape[1]) if hidden is None else hidden
        raw, last = self.cell(self.encoder(words), start, Masks())
        logits = self.decoder(raw)
        return logits if hidden is None else (logits, last)
