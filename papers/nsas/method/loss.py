"""The NSAS loss and the forms of it that were released (Method 1 and 4).

    L(w) = (1 - eps) CE(w; a_t) + (eps / M) sum_i CE(w; a_i)        same mini-batch; eps = ``mix``

Every form is a function (model, x, y, current, constraints) -> (loss, logits of the current architecture), both without
graph; the gradient is left in ``.grad`` of the model's parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from common.run import distributed
from common.train.loop import gradients_of_terms
from papers.nsas.method.novelty import distance
from papers.nsas.method.sampling import Architecture
from papers.nsas.networks import paths
from papers.nsas.networks.supernet import table_logits

Loss = Callable[[nn.Module, Tensor, Tensor, Architecture, Sequence[Architecture]], tuple[Tensor, Tensor]]
Penalty = Callable[[Architecture, Sequence[Architecture], Sequence[Any]], Any]  # of losses: numbers, or tensors []


def paper_loss(mix: float, logits_of: paths.Logits) -> Loss:
    """As published: a gradient through every term. Terms are differentiated one by one, so that one graph lives."""

    def loss(
        model: nn.Module, x: Tensor, y: Tensor, current: Architecture, constraints: Sequence[Architecture]
    ) -> tuple[Tensor, Tensor]:
        share = 1 - mix if constraints else 1.0
        output = logits_of(model, x, current)
        total = share * nn.functional.cross_entropy(output, y)
        total.backward()
        total = total.detach()
        for architecture in constraints:
            term = mix / len(constraints) * nn.functional.cross_entropy(logits_of(model, x, architecture), y)
            term.backward()
            total = total + term.detach()
        return total, output.detach()

    return loss


def mean_penalty(current: Architecture, constraints: Sequence[Architecture], losses: Sequence[Any]) -> Any:
    """mean_i CE(a_i)."""
    return sum(losses) / len(losses)


def released_loss(mix: float, logits_of: paths.Logits, table: str, penalty: Penalty = mean_penalty) -> Loss:
    """As released: (1 - eps) CE(current) + eps times a constant, so the gradient is (1 - eps) grad CE(current).

    The constraints are evaluated on the weights as they are, as numbers. Without any the loss is CE(current).
    """
    dense = table_logits if table == "softmax" else None

    def loss(
        model: nn.Module, x: Tensor, y: Tensor, current: Architecture, constraints: Sequence[Architecture]
    ) -> tuple[Tensor, Tensor]:
        output = logits_of(model, x, current)
        total = nn.functional.cross_entropy(output, y)
        if constraints:
            others = paths.constraint_losses(model, x, y, constraints, dense)
            total = (1 - mix) * total + (mix * penalty(current, constraints, others)).to(total)
        total.backward()
        return total.detach(), output.detach()

    return loss


def current_loss(logits_of: paths.Logits) -> Loss:
    """CE of the current architecture alone, whatever the constraints (GDAS at the head)."""
    alone = paper_loss(0.0, logits_of)
    return lambda model, x, y, current, constraints: alone(model, x, y, current, [])


def similarity_weights(current: Architecture, members: Sequence[Architecture]) -> list[float]:
    """w_i = mean over both cells of 1 - d(current, a_i)."""
    return [
        sum(1.0 - distance(mine, theirs) for mine, theirs in zip(current, member)) / len(current) for member in members
    ]


def weighted_recursion(weights: Sequence[float], losses: Sequence[Any]) -> Any:
    """acc <- w_i (acc + loss_i); 2 acc / (2 M): what was coded as a weighted mean is a chain of products."""
    total: Any = 0.0
    for weight, loss in zip(weights, losses):
        total = weight * (total + loss)
    return 2 * total / (2 * len(losses)) if losses else 0.0


def weighted_penalty(current: Architecture, constraints: Sequence[Architecture], losses: Sequence[Any]) -> Any:
    """The penalty of GDAS in 2019: the recursion over similarities to the current architecture."""
    return weighted_recursion(similarity_weights(current, constraints), losses)


def differentiate(
    loss_of: Callable[..., tuple[Tensor, Tensor]], model: nn.Module, shares: list[tuple[Tensor, Tensor]],
    cells: tuple, sums: LossSums, also: Sequence[Tensor] = (), **where: Any,
) -> None:  # fmt: skip
    """The gradients of a step's loss over this process's shares of a batch and those of the others, in ``.grad``.

    loss_of: (model, x, y, *cells) -> (loss, logits), both without graph. sums: take loss and hits. also: what gets a
    gradient beside the model. A loss that is not finite raises UserError, which says ``where``.
    """

    def terms(x: Tensor, y: Tensor) -> Tensor:
        loss, logits = loss_of(model, x, y, *cells)
        sums.count(logits, y)
        return loss

    sums.add(gradients_of_terms(model, shares, terms, also, **where))


class LossSums:
    """Loss and hits of an epoch as the authors' logs print them: the mean over its steps, and the share of its images.

    Losses are those of whole batches; hits and images each process counts for its own shares. Emptied when read, so
    that a run may keep it; a saved state holds the sums of all processes. Sums stay on the device until they are read.
    """

    loss: Any
    right: Any

    def __init__(self) -> None:
        self.loss, self.steps, self.right, self.images = 0.0, 0, 0, 0

    def count(self, logits: Tensor, y: Tensor) -> None:
        """A share: logits [B, K] for the labels y [B]."""
        self.right, self.images = self.right + (logits.argmax(1) == y).sum(), self.images + len(y)

    def add(self, loss: Any) -> None:
        """A step and its loss, a number or a tensor []."""
        self.loss, self.steps = self.loss + loss, self.steps + 1

    def read(self, part: str = "train") -> dict[str, Any]:
        """The columns of the history for the part of the set that was read; the training's loss is plain ``loss``."""
        right, images = distributed.summed(int(self.right), self.images)
        loss = "loss" if part == "train" else f"{part}_loss"
        row = {loss: float(self.loss) / self.steps, f"{part}_top1_percent": 100.0 * right / images}
        self.loss, self.steps, self.right, self.images = 0.0, 0, 0, 0
        return row

    def state_dict(self) -> dict[str, Any]:
        """The sums so far (in several processes a common act of all)."""
        right, images = (int(value) for value in distributed.summed(int(self.right), self.images))
        return {"loss": float(self.loss), "steps": self.steps, "right": right, "images": images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from saved sums: process 0 takes the counts, so that their sums stay right."""
        vars(self).update(state)
        if distributed.rank():
            self.right, self.images = 0, 0
