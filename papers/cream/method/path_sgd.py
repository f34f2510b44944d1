"""SGD with Nesterov momentum that only touches the present path's parameters, yet equals the dense one (Method 7).

The authors' torch filled cleared gradients with zeros, so a parameter that was used once keeps moving by momentum and
weight decay in every later step. With gradient zero that motion is linear in (weight w, momentum b):

    b' = mu b + lambda w,    w' = w - lr (lambda w + mu b')

so any number of idle steps is one 2x2 matrix, applied when the parameter is needed again (``catch_up``). A search step
then costs one path instead of the whole supernet. With ``zero_grad="none"``, torch's present default, they stand still.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

Matrix = tuple[float, float, float, float]  # row-major; maps (w, b) to (w', b')


class PathSGD:
    """The search's optimiser.

    groups: lists of parameters with their weight decay, in the original's order: no decay, decay, meta bias, meta
    weight. zero_grad: what clearing leaves, ``zeros`` or ``none``. ``lrs``, one rate per group, are set before a step.
    """

    def __init__(self, groups: list[dict[str, Any]], momentum: float = 0.9, zero_grad: str = "zeros") -> None:
        self.lrs: list[float] = []
        self.groups, self.momentum, self.zero_grad = groups, momentum, zero_grad
        self.params: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self.group_of = {id(p): number for number, group in enumerate(groups) for p in group["params"]}
        self.position = {id(p): number for number, p in enumerate(self.params)}
        self.buffers: list[Tensor | None] = [None] * len(self.params)
        self.seen = [0] * len(self.params)  # steps each parameter has taken part in, idle or not
        self.steps = 0
        self.base = 0  # number of the first step in ``history``
        self.history: list[list[float]] = []  # learning rates of the steps since the last flush

    def clear(self) -> None:
        """Remove every gradient tensor; whether a removed gradient counts as zero is decided by ``zero_grad``."""
        for p in self.params:
            p.grad = None

    @torch.no_grad()
    def step(self, still: Iterable[nn.Parameter] = ()) -> None:
        """Update every parameter that has a gradient; the others idle. ``still``: parameters that do not even idle
        in this step because their gradient was removed. All parameters touched must be caught up.
        """
        self.history.append(list(self.lrs))
        self.steps += 1
        for p in still:
            self.seen[self.position[id(p)]] = self.steps
        active: dict[int, list[int]] = {}
        for number, p in enumerate(self.params):
            if p.grad is not None:
                active.setdefault(self.group_of[id(p)], []).append(number)
        for group, numbers in active.items():
            for number in numbers:
                if self.buffers[number] is None:
                    self.buffers[number] = torch.zeros_like(self.params[number])
                elif self.zero_grad == "zeros" and self.seen[number] != self.steps - 1:
                    raise RuntimeError("a parameter was used without catch_up; this is a bug of the search")
                self.seen[number] = self.steps
            # through .data: graphs built before the step keep working and see the new values, as in torch 1.2
            sgd(
                [self.params[n].data for n in numbers],
                [self.params[n].grad for n in numbers],  # type: ignore[misc]
                [self.buffers[n] for n in numbers],
                foreach=not self._fusable(numbers),
                fused=self._fusable(numbers),
                weight_decay=self.groups[group]["weight_decay"],
                momentum=self.momentum,
                lr=self.lrs[group],
                dampening=0.0,
                nesterov=True,
                maximize=False,
            )

    def _fusable(self, numbers: list[int]) -> bool:
        return self.params[numbers[0]].dtype == torch.float32

    @torch.no_grad()
    def catch_up(self, params: Iterable[nn.Parameter] | None = None) -> None:
        """Apply the idle steps the given parameters (default: all) have not seen yet."""
        late: dict[tuple[int, int], list[int]] = {}
        for p in self.params if params is None else params:
            number = self.position[id(p)]
            if self.seen[number] != self.steps:
                if self.zero_grad == "zeros" and self.buffers[number] is not None:
                    late.setdefault((self.group_of[id(p)], self.seen[number]), []).append(number)
                self.seen[number] = self.steps
        for (group, since), numbers in late.items():
            self._apply(self._motion(group, since), sorted(set(numbers)))

    def _motion(self, group: int, since: int) -> Matrix:
        """Product of the idle steps ``since`` .. now of a group."""
        decay, mu = self.groups[group]["weight_decay"], self.momentum
        ww, wb, bw, bb = 1.0, 0.0, 0.0, 1.0
        for lrs in self.history[since - self.base :]:
            lr = lrs[group]
            bw, bb = mu * bw + decay * ww, mu * bb + decay * wb
            ww, wb = ww - lr * (decay * ww + mu * bw), wb - lr * (decay * wb + mu * bb)
        return ww, wb, bw, bb

    def _apply(self, motion: Matrix, numbers: list[int]) -> None:
        ww, wb, bw, bb = motion
        weights = [self.params[n].data for n in numbers]
        buffers = [buffer for n in numbers if (buffer := self.buffers[n]) is not None]
        moved = torch._foreach_mul(buffers, wb)
        torch._foreach_mul_(buffers, bb)
        if bw:
            torch._foreach_add_(buffers, weights, alpha=bw)
        if ww != 1.0:
            torch._foreach_mul_(weights, ww)
        torch._foreach_add_(weights, list(moved))

    def flush(self) -> None:
        """Catch everything up and forget the history; before saving, evaluating or handing weights out."""
        self.catch_up()
        self.base, self.history = self.steps, []

    def state_dict(self) -> dict[str, Any]:
        """Everything, idle steps still owed included: saving must not change a single rounding of the run."""
        return {
            "buffers": list(self.buffers), "steps": self.steps, "base": self.base, "seen": list(self.seen),
            "history": [list(lrs) for lrs in self.history],
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.buffers, self.seen = list(state["buffers"]), list(state["seen"])
        self.steps, self.base, self.history = state["steps"], state["base"], [list(lrs) for lrs in state["history"]]


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """1-d tensors and biases without decay, the rest with decay, meta bias, meta weight (no decay)."""
    plain, decayed, meta = [], [], {}
    for name, p in net.named_parameters():
        if name.startswith("meta_layer."):
            meta[name.rsplit(".", 1)[1]] = p
        elif p.ndim <= 1 or name.endswith(".bias"):
            plain.append(p)
        else:
            decayed.append(p)
    return [
        {"params": plain, "weight_decay": 0.0},
        {"params": decayed, "weight_decay": weight_decay},
        {"params": [meta["bias"]], "weight_decay": 0.0},
        {"params": [meta["weight"]], "weight_decay": 0.0},
    ]
