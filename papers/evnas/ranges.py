"""Settings outside their range are found before anything is read or trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.cli import ranges
from common.cli.errors import UserError

POSITIVE = ("channels", "layers", "cells_per_stage", "eval_batch_size", "evaluate_every")
NOT_NEGATIVE = (
    "train_images", "fitness_size", "learning_rate", "learning_rate_min", "lr", "weight_decay", "cutout",
    "warmup_epochs", "workers", "parts", "auxiliary_weight", "clip",  # a clip of 0 clips nothing
)  # fmt: skip
RATES = ("momentum", "drop_path", "label_smoothing")


def check_ranges(settings: Any, defaults: Sequence[str] = ()) -> None:
    """Raises UserError for the first of the settings that is out of range, or no finite number.

    defaults: sizes that may be 0, which stands for those of the checkpoint.
    """
    positive = [name for name in POSITIVE if name not in defaults]
    ranges.check_ranges(settings, at_least_one=positive, not_negative=(*NOT_NEGATIVE, *defaults), rates=RATES)


def check_training(settings: Any, options: Any) -> None:
    """Raises UserError for settings of ``train`` that cannot run, or that do nothing beside the others."""
    check_ranges(settings)
    if getattr(settings, "schedule", "") == "linear" and settings.epochs <= 5:
        raise UserError(
            f"--epochs {settings.epochs}: the linear schedule keeps its last five epochs for a fifth of the slope and "
            f"needs more than 5; raise --epochs, or use --schedule cosine"
        )
    idle = {} if settings.auxiliary else {"auxiliary_weight": "--auxiliary"}
    if hasattr(settings, "warmup_epochs") and settings.batch_size <= 256:
        idle["warmup_epochs"] = "--batch-size above 256"
    ranges.refuse_idle(settings, idle, options.given)


def check_search(settings: Any, options: Any) -> None:
    """Raises UserError for settings of ``search`` that do nothing beside the others."""
    check_ranges(settings)
    c = settings
    idle: dict[str, str] = {}
    if c.strategy != "evolution":
        idle |= dict.fromkeys(
            ("tournament", "elites", "mutation_rate", "crossover", "mutation"), "--strategy evolution"
        )
    if not c.mutation:
        idle.setdefault("mutation_rate", "--mutation")
    if not (c.decode_train or c.decode_fitness):
        idle["beta"] = "--decode-train or --decode-fitness"
    ranges.refuse_idle(c, idle, options.given)
