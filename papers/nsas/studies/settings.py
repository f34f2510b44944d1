"""Settings of the experiment "does the constraint matter?". No torch here."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from common.settings import refuse_idle, setting
from papers.nsas.nasbench201.settings import SupernetTraining
from papers.nsas.settings import Constraints


@dataclass(frozen=True)
class Experiment(SupernetTraining, Constraints):
    """Does the constraint matter? Supernets on NAS-Bench-201/CIFAR-10 trained under several losses."""

    train_images: int = setting(10_000, "images of the training set that are used, 0: all", at_least=0)
    loss: Literal["authors", "paper", "both"] = setting(
        "authors", "constraint losses without gradient (authors) or with it (paper); both in turn"
    )
    constraints: int = setting(2, "M, constraint architectures; 0: RandomNAS", at_least=0)
    channels: int = setting(8, "width of the first stage", at_least=1)
    cells: int = setting(2, "cells of a stage", at_least=1)
    epochs: int = setting(10, "epochs of the supernet", at_least=1)
    probe_every: int = setting(50, "steps between measurements of forgetting", at_least=1)
    probe_images: int = setting(256, "images that forgetting is measured on", at_least=1)
    rank_cells: int = setting(100, "cells whose supernet accuracy is ranked", at_least=1)
    rank_images: int = setting(1_000, "images that they are ranked on, 0: the whole other half", at_least=0)
    recalibrate_batches: int = setting(
        2, "batches that renew batch-norm values before a cell is ranked, 0: none", at_least=0
    )
    rank_every: int = setting(
        0, "epochs between rankings on the way, with renewed values and with those of the training; 0: none", at_least=0
    )
    summarise: str = setting("", "a folder: join the finished runs below it instead of running one")

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError for settings without effect."""
        if self.summarise:
            others = [f.name for f in fields(self) if f.name != "summarise"]
            refuse_idle(self, dict.fromkeys(others, "a run, not --summarise,"), given)
        elif not self.constraints:
            refuse_idle(self, dict.fromkeys(("recent", "neighbours", "mix"), "--constraints above 0"), given)
