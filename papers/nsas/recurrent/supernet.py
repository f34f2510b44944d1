"""The recurrent supernet: 36 edges x 5 operations, one shared BatchNorm1d (Method 12).

Node i mixes every earlier state j and every operation k except ``none``:
    sum_{j,k} p[j, k] (s_j + sigmoid(c_j) (f_k(g_j) - s_j)),   [c_j, g_j] = (s_j m_h) W_i.
With P_j = sum_k p[j, k] this equals  P_j s_j + sigmoid(c_j) (sum_k p[j, k] f_k(g_j) - P_j s_j), which is how it is
computed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from papers.nsas.recurrent.architecture import ACTIVATIONS, STEPS
from papers.nsas.recurrent.model import INIT_RANGE, Masks, activation
from papers.nsas.recurrent.products import deferred

RECURRENT_EDGES = STEPS * (STEPS + 1) // 2
SWITCHED_ON = 5.0

Nodes = Callable[[Tensor, Tensor | None], Tensor]  # (state 0 [B, H], mask of the hidden state) -> states 1..8 [8, B, H]
RecurrentCode = tuple[tuple[int, int], ...]  # (operation, earlier state) of each of the eight nodes


def first_edge(node: int) -> int:
    """Row of the edge from state 0 into ``node``."""
    return node * (node + 1) // 2


def sample(rng: np.random.RandomState) -> RecurrentCode:
    """Operation uniform over the four non-none, input uniform over the earlier states."""
    return tuple((int(rng.randint(1, len(ACTIVATIONS))), int(rng.randint(0, node + 1))) for node in range(STEPS))


def encode(code: RecurrentCode, value: float = SWITCHED_ON) -> Tensor:
    """Table [36, 5] with ``value`` at the chosen entries (the released code writes 5)."""
    table = torch.zeros(RECURRENT_EDGES, len(ACTIVATIONS))
    for node, (operation, state) in enumerate(code):
        table[first_edge(node) + state, operation] = value
    return table


def genotype(code: RecurrentCode) -> tuple[tuple[str, int], ...]:
    """Names for the derived cell."""
    return tuple((ACTIVATIONS[operation], state) for operation, state in code)


class SupernetCell(nn.Module):
    """Cell whose mixture is a table [36, 5]: ``mixing`` "softmax" (rows), "raw", or one path (``code`` given)."""

    def __init__(self, width: int, mixing: str = "softmax"):
        super().__init__()
        self.width, self.mixing = width, mixing
        self._W0 = nn.Parameter(torch.empty(2 * width, 2 * width).uniform_(-INIT_RANGE, INIT_RANGE))
        self._Ws = nn.ParameterList(
            nn.Parameter(torch.empty(width, 2 * width).uniform_(-INIT_RANGE, INIT_RANGE)) for _ in range(STEPS)
        )
        self.bn = nn.BatchNorm1d(width, affine=False)
        self.table: Tensor
        self.register_buffer("table", None, persistent=False)  # it moves with the weights, but is none of them
        self.code: RecurrentCode | None = None

    def set_table(self, table: Tensor) -> None:
        """Every edge and operation, weighted by ``table``."""
        self.table, self.code = table, None

    def set_path(self, code: RecurrentCode) -> None:
        """One path, weight one: node i is only s_p + sigmoid(c)(f(g) - s_p)."""
        self.code = code

    def forward(self, x: Tensor, hidden: Tensor, masks: Masks) -> tuple[Tensor, Tensor]:
        """x [T, B, H], hidden [1, B, H] -> outputs [T, B, H], last hidden [1, B, H]."""
        width, drop = self.width, masks.hidden
        inputs = x if masks.x is None else x * masks.x
        from_input = (inputs.reshape(-1, width) @ self._W0[:width]).view(*x.shape[:2], 2 * width).unbind(0)
        from_hidden = deferred(self._W0[width:])
        node_of = self._mixture_nodes() if self.code is None else self._path_nodes(self.code)
        h, outputs = hidden[0], []
        for first in from_input:
            c, g = from_hidden(h if drop is None else h * drop, first).split(width, -1)
            states = node_of(self.bn(torch.lerp(h, torch.tanh(g), torch.sigmoid(c))), drop)
            h = states.mean(0)
            outputs.append(h)
        stacked = torch.stack(outputs)
        return stacked, stacked[-1].unsqueeze(0)

    def _mixture_nodes(self) -> Nodes:
        """Dense execution; the table is prepared once a chunk."""
        table = self.table.softmax(-1) if self.mixing == "softmax" else self.table
        rows = [table[first_edge(i) : first_edge(i) + i + 1, 1:] for i in range(STEPS)]
        shares = [row.sum(-1).view(-1, 1, 1) for row in rows]
        multiply = [deferred(weight) for weight in self._Ws]
        columns = [[row[:, k].view(-1, 1, 1) for k in range(len(ACTIVATIONS) - 1)] for row in rows]

        def nodes(state: Tensor, drop: Tensor | None) -> Tensor:
            states = state.unsqueeze(0)
            dropped = states if drop is None else states * drop
            for node in range(STEPS):
                c, g = multiply[node](dropped.flatten(0, 1)).view(node + 1, -1, 2 * self.width).split(self.width, -1)
                tanh, relu, sigmoid, identity = columns[node]
                mixed = tanh * torch.tanh(g) + relu * torch.relu(g) + sigmoid * torch.sigmoid(g) + identity * g
                own = shares[node] * states
                fresh = self.bn((own + torch.sigmoid(c) * (mixed - own)).sum(0)).unsqueeze(0)
                states = torch.cat([states, fresh])
                dropped = torch.cat([dropped, fresh if drop is None else fresh * drop])
            return states[1:]

        return nodes

    def _path_nodes(self, code: RecurrentCode) -> Nodes:
        """Only the sampled operation of each node."""
        multiply = [deferred(weight) for weight in self._Ws]

        def nodes(state: Tensor, drop: Tensor | None) -> Tensor:
            states = [state]
            dropped = [state if drop is None else state * drop]
            for node, (operation, source) in enumerate(code):
                c, g = multiply[node](dropped[source]).split(self.width, -1)
                fresh = self.bn(torch.lerp(states[source], activation(ACTIVATIONS[operation], g), torch.sigmoid(c)))
                states.append(fresh)
                dropped.append(fresh if drop is None else fresh * drop)
            return torch.stack(states[1:])

        return nodes
