"""The recurrent language model: derived cell, dropouts, tied decoder (Method 11).

Shapes: words [T, B] int64, hidden [1, B, H], outputs [T, B, H], V words. Masks may be given; else they are drawn from
a ``generator``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers.nsas.recurrent.architecture import Recurrent
from papers.nsas.recurrent.products import deferred, linear_nll
from papers.nsas.recurrent.settings import Training

INIT_RANGE = 0.04


def activation(name: str, x: Tensor) -> Tensor:
    """f of a node; ``none`` is zero."""
    if name == "tanh":
        return torch.tanh(x)
    if name == "relu":
        return torch.relu(x)
    if name == "sigmoid":
        return torch.sigmoid(x)
    return x if name == "identity" else x * 0


@dataclass(frozen=True)
class Dropouts:
    """Drop probabilities of one model; the published run's values are the defaults."""

    output: float = 0.75
    hidden: float = 0.25
    x: float = 0.75
    inputs: float = 0.2
    embedding: float = 0.1


def drops_of(settings: Training) -> Dropouts:
    """The drop probabilities of a stage."""
    return Dropouts(
        settings.drop_output, settings.drop_hidden, settings.drop_x, settings.drop_input, settings.drop_embedding
    )


@dataclass
class Masks:
    """One chunk's masks, already divided by their keep probability; None = nothing dropped."""

    embedding: Tensor | None = None  # [V, 1]
    inputs: Tensor | None = None  # [1, B, H]
    x: Tensor | None = None  # [B, H]
    hidden: Tensor | None = None  # [B, H]
    output: Tensor | None = None  # [1, B, H]

    def of(self, columns: slice) -> Masks:
        """Those of some of the B columns."""

        def cut(mask: Tensor | None, axis: int) -> Tensor | None:
            return mask if mask is None else mask[(slice(None),) * axis + (columns,)]

        x, hidden = cut(self.x, 0), cut(self.hidden, 0)
        return Masks(self.embedding, cut(self.inputs, 1), x, hidden, cut(self.output, 1))


def draw_masks(dropouts: Dropouts, words: int, batch: int, width: int, generator: torch.Generator) -> Masks:
    """Bernoulli(keep) / keep for every place; one draw a chunk."""

    def mask(drop: float, *shape: int) -> Tensor | None:
        if drop <= 0:
            return None
        uniform = torch.rand(*shape, generator=generator, device=generator.device)
        return (uniform < 1 - drop).float().div_(1 - drop)

    return Masks(
        embedding=mask(dropouts.embedding, words, 1),
        inputs=mask(dropouts.inputs, 1, batch, width),
        x=mask(dropouts.x, batch, width),
        hidden=mask(dropouts.hidden, batch, width),
        output=mask(dropouts.output, 1, batch, width),
    )


class DerivedCell(nn.Module):
    """The derived cell: W0 [2H, 2H], W_i [H, 2H]; node i = (f, p): s_{i+1} = s_p + sigmoid(c)(f(g) - s_p).

    Nodes are executed level by level: those that read one state share a matrix product, and the input half of
    [x m_x, h m_h] W0 is one product for all time steps. Same sums as node by node, in fewer calls.
    """

    def __init__(self, width: int, recurrent: tuple[tuple[str, int], ...], concat: tuple[int, ...]):
        super().__init__()
        self.width, self.recurrent, self.concat = width, tuple(recurrent), tuple(concat)
        self._W0 = nn.Parameter(torch.empty(2 * width, 2 * width).uniform_(-INIT_RANGE, INIT_RANGE))
        self._Ws = nn.ParameterList(
            nn.Parameter(torch.empty(width, 2 * width).uniform_(-INIT_RANGE, INIT_RANGE)) for _ in self.recurrent
        )
        self.levels = _levels(self.recurrent)

    def forward(self, x: Tensor, hidden: Tensor, masks: Masks) -> tuple[Tensor, Tensor]:
        """x [T, B, H], hidden [1, B, H] -> outputs [T, B, H], last hidden [1, B, H]."""
        width = self.width
        inputs = x if masks.x is None else x * masks.x
        from_input = (inputs.reshape(-1, width) @ self._W0[:width]).view(*x.shape[:2], 2 * width).unbind(0)
        from_hidden = deferred(self._W0[width:])
        grouped = [
            (source, nodes, deferred(torch.cat([self._Ws[n] for n in nodes], 1))) for source, nodes in self.levels
        ]
        h, outputs = hidden[0], []
        for first in from_input:
            c, g = from_hidden(h if masks.hidden is None else h * masks.hidden, first).split(width, -1)
            states = {0: torch.lerp(h, torch.tanh(g), torch.sigmoid(c))}
            for source, nodes, multiply in grouped:
                state = states[source]
                product = multiply(state if masks.hidden is None else state * masks.hidden)
                for node, part in zip(nodes, product.split(2 * width, -1)):
                    c, g = part.split(width, -1)
                    states[node + 1] = torch.lerp(state, activation(self.recurrent[node][0], g), torch.sigmoid(c))
            h = torch.stack([states[i] for i in self.concat], -1).mean(-1)
            outputs.append(h)
        stacked = torch.stack(outputs)
        return stacked, stacked[-1].unsqueeze(0)


def _levels(recurrent: tuple[tuple[str, int], ...]) -> list[tuple[int, list[int]]]:
    """(source state, nodes reading it) in an order in which each source is ready; a source appears once."""
    groups: dict[int, list[int]] = {}
    for node, (_, source) in enumerate(recurrent):
        groups.setdefault(source, []).append(node)
    return sorted(groups.items())


class LanguageModel(nn.Module):
    """Embedding -> cell -> linear with the embedding's weight and its own bias."""

    def __init__(self, words: int, width: int, cell: nn.Module, dropouts: Dropouts):
        super().__init__()
        self.words, self.width, self.dropouts = words, width, dropouts
        self.encoder = nn.Embedding(words, width)
        self.rnns = nn.ModuleList([cell])
        self.decoder = nn.Linear(width, words)
        self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -INIT_RANGE, INIT_RANGE)
        nn.init.zeros_(self.decoder.bias)

    @property
    def cell(self) -> Any:
        """The derived or the search cell."""
        return self.rnns[0]

    def masks(self, batch: int, generator: torch.Generator) -> Masks:
        """Masks of one training chunk, or no masks in eval mode."""
        if not self.training:
            return Masks()
        return draw_masks(self.dropouts, self.words, batch, self.width, generator)

    def forward(
        self, words: Tensor, hidden: Tensor, masks: Masks | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """logits [T, B, V], hidden [1, B, H], raw outputs [T, B, H], dropped outputs [T, B, H]."""
        hidden, raw, output = self.outputs(words, hidden, masks)
        logits = self.decoder(output.reshape(-1, self.width)).view(*words.shape, self.words)
        return logits, hidden, raw, output

    def outputs(self, words: Tensor, hidden: Tensor, masks: Masks | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """hidden [1, B, H], raw outputs [T, B, H], dropped outputs [T, B, H]: all but the decoder."""
        masks = masks or Masks()
        # padding index V - 1, as the released look-up: the last word's row gets no gradient from here
        embedded = F.embedding(words, self.encoder.weight, padding_idx=self.words - 1)
        if masks.embedding is not None:
            embedded = embedded * masks.embedding[words]  # only the rows in use, not the whole vocabulary
        if masks.inputs is not None:
            embedded = embedded * masks.inputs
        raw, hidden = self.cell(embedded, hidden, masks)
        return hidden, raw, raw if masks.output is None else raw * masks.output

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Mean negative log-likelihood of dropped outputs [T, B, H]: ``nll`` of the logits, which are not kept."""
        flat = output.reshape(-1, self.width)
        return linear_nll(flat, self.decoder.weight, self.decoder.bias, targets.reshape(-1))

    def start(self, batch: int) -> Tensor:
        """Zero hidden state [1, B, H]."""
        return self.encoder.weight.new_zeros(1, batch, self.width)

    def starts(self, batch: int, count: int) -> list[Tensor]:
        """``count`` of them."""
        return [self.start(batch) for _ in range(count)]


def nll(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood of [T, B, V] logits."""
    return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def activation_penalty(raw: Tensor, dropped: Tensor, alpha: float, beta: float) -> Tensor | float:
    """alpha mean(dropped^2) + beta mean((raw[t+1] - raw[t])^2), last layer."""
    penalty: Tensor | float = 0.0
    if alpha:
        penalty = penalty + alpha * dropped.pow(2).mean()
    if beta:
        penalty = penalty + beta * (raw[1:] - raw[:-1]).pow(2).mean()
    return penalty


# -- as a plain module: it starts by itself and puts out logits --------------------------------------------------------


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
