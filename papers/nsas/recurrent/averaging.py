"""The optimiser of recurrent training: SGD, and averaged SGD once validation stalls (Method 13)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Descent:
    """SGD until ``average``, then averaged SGD over the same weights, begun afresh."""

    def __init__(self, model: torch.nn.Module, lr: float, weight_decay: float) -> None:
        self.model, self.lr, self.weight_decay = model, lr, weight_decay
        self.averaging = False
        self.optimizer = make_sgd(model, lr, weight_decay)

    def average(self) -> None:
        """From now on averaged SGD."""
        self.averaging, self.optimizer = True, make_asgd(self.model, self.lr, self.weight_decay)

    def state_dict(self) -> dict[str, Any]:
        """The phase and its optimiser's state."""
        return {"averaging": self.averaging, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """An optimiser of the saved phase, in its state."""
        self.averaging = state["averaging"]
        make = make_asgd if self.averaging else make_sgd
        self.optimizer = make(self.model, self.lr, self.weight_decay)
        self.optimizer.load_state_dict(state["optimizer"])


def switches_to_averaging(earlier: Sequence[float], loss: float, nonmono: int = 5) -> bool:
    """More than ``nonmono`` earlier validation losses, and ``loss`` exceeds the minimum of all but the last so many."""
    return len(earlier) > nonmono and loss > min(earlier[:-nonmono])


def make_sgd(model: torch.nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Plain SGD."""
    return torch.optim.SGD(model.parameters(), lr=lr, weight_decay=weight_decay)


def make_asgd(model: torch.nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """ASGD with t0 = 0, lambd = 0: SGD plus a running mean of the weights from its first step.

    Its step size is computed at the end of the step before, so a change of ``lr`` acts one step late.
    """
    return torch.optim.ASGD(model.parameters(), lr=lr, t0=0, lambd=0.0, weight_decay=weight_decay)


class averaged:
    """``with averaged(model, optimizer):`` the model holds the averaged weights (ASGD phase), afterwards its own."""

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.kept: list[tuple[torch.nn.Parameter, Tensor]] = []

    def __enter__(self) -> None:
        if isinstance(self.optimizer, torch.optim.ASGD):
            for p in self.model.parameters():
                if "ax" in self.optimizer.state.get(p, {}):
                    self.kept.append((p, p.data))
                    p.data = self.optimizer.state[p]["ax"].clone()

    def __exit__(self, *_: object) -> None:
        for p, value in self.kept:
            p.data = value
        self.kept = []
