"""Settings of the side experiments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.settings import Settings, setting
from papers.cream.settings import Given, Recalibration, Recipe


@dataclass(frozen=True)
class RankStudy(Recalibration, Recipe):
    """Do shared weights rank paths as training from scratch does? The published words fix 30 paths and the subset;
    epochs, rate of the average and what is scored are unpublished, so these are our own choice.
    """

    search: str = setting("", "folder of a finished search; its data set, subset and resolution are used")
    paths: int = setting(30, "random paths that are scored and trained", at_least=1)
    macs_min: float = setting(0.0, "window of the paths in MFLOPs, by the search's table at 224", at_least=0)
    macs_max: float = setting(0.0, "its other end in MFLOPs; 0: no limit", at_least=0)
    epochs: int = setting(100, "epochs of each training, without the cool-down", at_least=1)
    ema_decay: float = setting(0.99, "decay of the averaged weights, per step", at_least=0, at_most=1)

    def check(self, given: Given = None) -> None:
        """Raises UserError for a setting that the trainings would not look at."""
        self.check_recipe("path", given)


@dataclass(frozen=True)
class Figures(Settings):
    """Accuracy against MACs, redrawn with what was measured here."""

    results: str = setting("results", "folder whose result files give the measured points")
    format: Literal["svg", "png", "pdf"] = setting("svg", "kind of picture file")
