"""Settings of the searches on NAS-Bench-201; the defaults are those of the notebooks. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.errors import UserError
from common.settings import Settings, refuse_idle, setting


@dataclass(frozen=True)
class SupernetTraining(Settings):
    """A supernet of the space and its training, as in every notebook."""

    dataset: str = setting("cifar10", "image set by name, or a folder; NAME@SIZE: at another size")
    train_images: int = setting(0, "images of the training set that are used, 0: all", at_least=0)
    channels: int = setting(16, "width of the first stage", at_least=1)
    cells: int = setting(5, "cells of a stage", at_least=1)
    epochs: int = setting(100, "epochs of the supernet", at_least=1)
    batch_size: int = setting(64, "images of a training step", at_least=1)
    lr: float = setting(0.025, "learning rate of the first epoch, then a cosine", at_least=0)
    lr_min: float = setting(0.001, "learning rate that the cosine goes to", at_least=0)
    momentum: float = setting(0.9, "Nesterov momentum", at_least=0, below=1)
    weight_decay: float = setting(5e-4, "weight decay", at_least=0)
    clip: float = setting(5.0, "largest norm of the gradient", above=0)


@dataclass(frozen=True)
class SearchNb201(SupernetTraining):
    """What the two searches share."""

    constraint: Literal["nsas", "r", "g", "compensation", "low", "none"] = setting(
        "nsas",
        "constraint cells: random and diverse (nsas), two random (r), random and its compensation (g), the cell "
        "before and its compensation (compensation), the cell before (low)",
    )
    constraints: int = setting(2, "M, constraint cells of nsas: 2 to 5", at_least=0)

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError for a wrong number of constraints, and for settings without effect."""
        if self.constraint == "nsas" and not 2 <= self.constraints <= 5:  # at most four cells can be avoided
            raise UserError(
                f"--constraints {self.constraints}: NSAS on NAS-Bench-201 takes 2 to 5 (there are five operations)"
            )
        idle = {} if self.constraint == "nsas" else {"constraints": "--constraint nsas"}
        if self.constraint == "none":
            idle["constraint_gradient"] = "a --constraint"
        refuse_idle(self, idle | self.idle(), given)

    def idle(self) -> dict[str, str]:
        """Settings of one of the searches that do nothing beside the others, and what they would need."""
        return {}


@dataclass(frozen=True)
class SearchNb201Random(SearchNb201):
    """RandomNAS variants as stored in the notebooks (100 epochs for NSAS, 250 for LoW)."""

    constraint_gradient: bool = setting(True, "gradient through the constraints' losses")
    structure_bug: bool = setting(True, "diverse and compensation cells lose three of their six edges, as released")
    argument_bug: bool = setting(True, "M >= 3: every diverse cell avoids the random one only, as released")
    selection: Literal["released", "proper"] = setting(
        "released", "a cell's score: a new random cell for every batch (released), or one cell a pass (proper)"
    )
    select_candidates: int = setting(100, "random cells that the search chooses among", at_least=1)
    epoch_candidates: int = setting(
        2, "cells compared after every epoch, beside one validation pass; 0: neither", at_least=0
    )
    select_images: int = setting(0, "images of the other half, 0: all", at_least=0)
    select_batch_size: int = setting(
        64, 'images of a scored batch; with "released" selection it sets how many cells a pass mixes', at_least=1
    )
    recalibrate_batches: int = setting(
        0, "batches that renew batch-norm values before a cell is scored, 0: none", at_least=0
    )

    def idle(self) -> dict[str, str]:
        """See :meth:`SearchNb201.idle`."""
        idle = {}
        if self.constraint not in ("nsas", "g", "compensation"):
            idle["structure_bug"] = "--constraint nsas, g or compensation"
        if self.constraint != "nsas" or self.constraints < 3:
            idle["argument_bug"] = "--constraint nsas and three or more --constraints"
        return idle


@dataclass(frozen=True)
class SearchNb201Gdas(SearchNb201):
    """GDAS variants (250 epochs in every log)."""

    epochs: int = setting(250, "epochs of the supernet", at_least=1)
    constraint_gradient: bool = setting(False, "gradient through the constraints' losses")
    shared_cells: bool = setting(
        True, "as released: index tensors changed in place, constraints made from a draw of their own"
    )
    stale_clip: bool = setting(True, "clip over all parameters, alphas with their stale gradient included")
    penalty: float = setting(0.2, "share of the constraints in the loss (nsas, r, g)", at_least=0, at_most=1)
    tau_max: float = setting(10.0, "Gumbel temperature of the first epoch, then linear", above=0)
    tau_min: float = setting(0.1, "Gumbel temperature of the last epoch", above=0)
    arch_lr: float = setting(3e-4, "learning rate of the alphas", at_least=0)
    arch_weight_decay: float = setting(1e-3, "weight decay of the alphas", at_least=0)

    def idle(self) -> dict[str, str]:
        """See :meth:`SearchNb201.idle`."""
        idle = {}
        if self.constraint in ("r", "none") or (self.constraint == "nsas" and self.constraints < 3):
            idle["shared_cells"] = "--constraint g, compensation, low, or nsas with three or more --constraints"
        if self.constraint in ("compensation", "low", "none"):
            idle["penalty"] = "--constraint nsas, r or g"
        return idle
