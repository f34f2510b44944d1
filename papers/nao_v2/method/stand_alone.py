"""Training a derived network from scratch (Method 8): the search's best, the studies' architectures, ``train``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from common.data.batches import Epochs
from common.data.sets import Images
from common.errors import UserError
from common.run import seeds
from common.run.folder import Run
from common.train.loop import Metrics, auxiliary_loss, evaluate, read, train_step
from common.train.losses import TopK, label_smoothing_cross_entropy
from common.train.schedules import cosine, exponential
from papers.nao_v2.data.sets import all_batches, train_batches
from papers.nao_v2.networks.architectures import Architecture, Shape
from papers.nao_v2.networks.derived import Network
from papers.nao_v2.networks.operations import DropPath, drop_path_keep, set_step


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
    drop_path_steps: int = 1

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


def train_alone(
    run: Run, network: Network, recipe: Recipe, batches: Epochs, device: torch.device, chance: int
) -> Iterator[tuple[int, Metrics]]:
    """SGD on cross entropy + 0.4 of the auxiliary head's; yields (epoch, its metrics) after each epoch.

    chance: seed of what the steps draw in several processes (drop path, dropout). Each step is kept by the run.
    """

    def criterion(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return label_smoothing_cross_entropy(logits, target, recipe.label_smoothing)

    network.drop_path = DropPath(recipe.drop_path_keep, recipe.drop_path_steps, network.cells_total)
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, foreach=True
    )
    counter, loss_of = TopK(device), auxiliary_loss(criterion, recipe.auxiliary_weight)
    run.keeps(network=network, network_optimizer=optimizer, network_counter=counter)
    for epoch in run.epochs(recipe.epochs):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(epoch)
        network.train()
        for step, shares in run.steps(batches.in_shares(), epoch):
            seeds.step_chance(chance, epoch, step)
            set_step(network, epoch * len(batches) + step)
            train_step(
                network, shares, optimizer, loss_of, clip_norm=recipe.clip, precision=run.options.precision,
                counter=counter, step=step,
            )  # fmt: skip
        yield epoch, read(counter)


@dataclass(frozen=True)
class StandAlone:
    """What the stand-alone trainings of a study have in common.

    recipe: how they are trained; shape, network: what ``Network`` takes; train, valid: images; batch_size, parts: of a
    step.
    """

    recipe: Recipe
    shape: Shape
    network: dict[str, Any]
    train: Images
    valid: Images
    batch_size: int
    parts: int

    def accuracy(self, run: Run, architecture: Architecture, number: int, device: torch.device) -> float:
        """Percent of the validation images after training from scratch; depends on (seed, number) only."""
        seed, name = run.options.seed, str(number)
        torch.manual_seed(seeds.integer(seed, "alone", name))
        built = Network(architecture, self.shape, generator=seeds.generator(seed, "alone", name), **self.network).to(
            device
        )
        batches = train_batches(self.train, self.batch_size, seed, f"alone-{name}", parts=self.parts)
        chance = seeds.integer(seed, "alone chance", name)
        for _ in train_alone(run, built, self.recipe, batches, device, chance):
            pass
        return 100.0 - evaluate(built, all_batches(self.valid), device, run.options.precision).top1_error
