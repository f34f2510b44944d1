"""The tables alpha of GDAS in the DARTS space: learned by Adam, sampled, and read as a cell (Method 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from papers.nsas.method.relaxation import relaxed_one_hot
from papers.nsas.method.sampling import COLUMNS, ROWS, Architecture, Cell


class Tables:
    """One table [14, 8] for the normal and one for the reduction cells, 1e-3 times a standard normal at first.

    learned: what Adam holds (``lr``, ``weight_decay``, betas 0.5 and 0.999). used: what the network reads; the same
    tensors until ``overwrite``, after which the learned ones no longer matter (the released head).
    """

    def __init__(self, lr: float, weight_decay: float, device: torch.device) -> None:
        self.learned = [(1e-3 * torch.randn(ROWS, COLUMNS)).to(device).requires_grad_() for _ in range(2)]
        self.used = list(self.learned)
        self.optimizer = torch.optim.Adam(self.learned, lr, betas=(0.5, 0.999), weight_decay=weight_decay)

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Adam's step on the learned tables; overwritten ones get no gradient, only decay."""
        for table, used, gradient in zip(self.learned, self.used, gradients, strict=True):
            table.grad = gradient if used is table else torch.zeros_like(table)
        self.optimizer.step()

    def sample(self, temperature: float, generator: torch.Generator) -> list[Tensor]:
        """A relaxed one-hot draw Z [14, 8] of each table, on the CPU."""
        tables = torch.stack([table.detach() for table in self.used]).cpu()  # the cell that runs next is read from them
        return [relaxed_one_hot(t, torch.rand(t.shape, generator=generator), temperature) for t in tables]

    def overwrite(self, samples: Sequence[Tensor]) -> None:
        """The tables become the sample."""
        self.used = [s.to(t.device).requires_grad_() for s, t in zip(samples, self.used, strict=True)]

    def architecture(self, decode: Callable[[np.ndarray], Cell]) -> Architecture:
        """The cells that ``decode`` reads from them."""
        normal, reduction = (decode(table.detach().cpu().numpy()) for table in self.used)
        return normal, reduction

    def state_dict(self) -> dict[str, Any]:
        """Both pairs (of ``used`` None while it is the learned pair) and Adam's moments."""
        overwritten = self.used[0] is not self.learned[0]
        return {
            "learned": [table.detach() for table in self.learned],
            "used": [table.detach() for table in self.used] if overwritten else None,
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`; the learned tensors stay the ones that Adam holds."""
        with torch.no_grad():
            for table, stored in zip(self.learned, state["learned"], strict=True):
                table.copy_(stored)
        if state["used"] is not None:
            self.used = [table.to(self.learned[0].device).requires_grad_() for table in state["used"]]
        self.optimizer.load_state_dict(state["optimizer"])
