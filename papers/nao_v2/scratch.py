"""Training a derived network from scratch, epoch by epoch; used by the search's final step, training and studies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from common.cli.errors import UserError
from common.train.loop import Metrics, auxiliary_loss, read, train_steps
from common.train.losses import TopK, label_smoothing_cross_entropy
from common.train.schedules import cosine, exponential
from papers.nao_v2.network.network import Network
from papers.nao_v2.network.operations import DropPath, drop_path_keep


@dataclass(frozen=True)
class Recipe:
    """SGD with clipping; the defaults are the final step's of the search."""

    epochs: int = 10
    lr: float = 0.025
    lr_min: float = 0.001
    schedule: str = "cosine"
    decay_rate: float = 0.97
    decay_epochs: int = 1
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.4
    drop_path_keep: float = 1.0
    drop_path_steps: int = 0

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch."""
        if self.schedule == "exponential":
            return exponential(self.lr, self.decay_rate, epoch // self.decay_epochs)
        return cosine(self.lr, self.lr_min, epoch, self.epochs)

    def check_ramp(self, steps_per_epoch: int) -> None:
        """Raises UserError where the drop path's ramp ends so early that nothing would be kept at the end."""
        if self.drop_path_keep >= 1.0:
            return
        steps = self.epochs * steps_per_epoch
        if drop_path_keep(self.drop_path_keep, 0, 1, steps - 1, self.drop_path_steps) < 1e-9:
            raise UserError(
                f"drop path: the ramp ends after {self.drop_path_steps} steps, but the training takes {steps} and "
                f"would drop every path; use fewer epochs, a higher keep, or a longer ramp (--…drop-path-steps)"
            )


class Trainer:
    """A network, its optimiser and its place in the run; ``state`` and ``restore`` make it resumable at any step."""

    def __init__(
        self, network: Network, recipe: Recipe, device: torch.device, precision: str = "fp32", seed: int = 0
    ) -> None:
        """seed: of what the steps draw in several processes (drop path, dropout), apart from the process's number."""
        self.seed = seed
        self.network, self.recipe, self.device, self.precision = network, recipe, device, precision
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            foreach=True,
        )
        self.drop: DropPath | None = None
        if recipe.drop_path_keep < 1.0:
            self.drop = DropPath(recipe.drop_path_keep, recipe.drop_path_steps, network.cells_total)
        network.drop_path = self.drop

        def criterion(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return label_smoothing_cross_entropy(logits, target, recipe.label_smoothing)

        self.loss_of = auxiliary_loss(criterion, recipe.auxiliary_weight)
        self.counter, self.epoch, self.step = TopK(device), 0, 0

    def train_epoch(
        self, batches: Any, at_step: Callable[[], None] = lambda: None, desc: Callable[[Any], Any] = lambda b: b
    ) -> Metrics:
        """The (rest of the) present epoch; ``at_step`` runs after each step, where the state is consistent."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.epoch)
        self.network.train()
        per_epoch = len(batches)

        def set_step(step: int) -> None:
            self.step = step
            if self.drop is not None:
                self.drop.step = self.epoch * per_epoch + step

        set_step(self.step)
        steps = train_steps(
            self.network,
            desc(batches.shares(self.epoch, self.step)),
            self.optimizer,
            self.loss_of,
            clip_norm=self.recipe.clip,
            device=self.device,
            precision=self.precision,
            start_step=self.step,
            counter=self.counter,
            seed=self.seed,
            epoch=self.epoch,
        )
        for done in steps:
            set_step(done)
            at_step()
        metrics = read(self.counter)
        self.counter, self.epoch, self.step = TopK(self.device), self.epoch + 1, 0
        return metrics

    def state(self) -> dict[str, Any]:
        """Everything but the random generators (in several processes a common act of all)."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "counter": self.counter.state(),
            "epoch": self.epoch,
            "step": self.step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from ``state()``."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.counter.restore(state["counter"])
        self.epoch, self.step = state["epoch"], state["step"]
