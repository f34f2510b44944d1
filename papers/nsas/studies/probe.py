"""What the experiment measures on the way: forgetting, and the seconds it takes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.spaces.nasbench201.network import Supernet
from papers.nsas.nasbench201.constraints import Code
from papers.nsas.nasbench201.supernet import code_logits
from papers.nsas.networks.paths import frozen_statistics

WATCHED = 4  # architectures whose accuracy is followed from one probe to the next


class Probe:
    """What architectures lose between two probes, on a fixed batch x [B, 3, H, W], y [B]."""

    def __init__(self, supernet: Supernet, x: Tensor, y: Tensor) -> None:
        self.supernet, self.x, self.y = supernet, x, y
        self.last: list[Code] = []  # the last architectures that were trained
        self.watched: list[tuple[Code, float]] = []  # those of the last probe, with their accuracy then
        self.drops: list[tuple[int, float]] = []  # (step, points lost)

    def trained(self, code: Code) -> None:
        """An architecture has been trained."""
        self.last = [*self.last, code][-WATCHED:]

    def measure(self, step: int) -> None:
        """How the architectures noted at the last probe fare after the updates since; note those trained now."""
        self.drops += [(step, before - self.accuracy(code)) for code, before in self.watched]
        self.watched = [(code, self.accuracy(code)) for code in self.last]

    @torch.no_grad()
    def accuracy(self, code: Code) -> float:
        """Percent on the batch, with its own statistics; running values are left alone."""
        self.supernet.train()
        with frozen_statistics(self.supernet):
            right = code_logits(self.supernet, self.x, code).argmax(1) == self.y
        return 100.0 * float(right.float().mean())

    def mean(self) -> float:
        """Mean of the measured losses of accuracy, points."""
        return float(np.mean([points for _, points in self.drops])) if self.drops else 0.0

    def state_dict(self) -> dict[str, Any]:
        """What was trained, noted and measured."""
        return {"last": self.last, "watched": self.watched, "drops": list(self.drops)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.last, self.watched, self.drops = state["last"], state["watched"], list(state["drops"])


class Clock:
    """Seconds of the processor that a run has taken, over all its sessions."""

    def __init__(self) -> None:
        self.earlier, self.started = 0.0, time.process_time()

    def seconds(self) -> float:
        """So far."""
        return self.earlier + time.process_time() - self.started

    def state_dict(self) -> dict[str, float]:
        """So far."""
        return {"seconds": self.seconds()}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from saved seconds."""
        self.earlier, self.started = state["seconds"], time.process_time()
