"""Settings outside their range are found before anything is read or trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common import ranges

POSITIVE = ("channels", "layers", "cells_per_stage", "eval_batch_size", "evaluate_every")
NOT_NEGATIVE = (
    "train_images", "fitness_size", "learning_rate", "learning_rate_min", "lr", "weight_decay", "cutout",
    "warmup_epochs", "workers", "auxiliary_weight", "clip",  # a clip of 0 clips nothing
)  # fmt: skip
RATES = ("momentum", "drop_path", "label_smoothing")


def check_ranges(settings: Any, defaults: Sequence[str] = ()) -> None:
    """Raises UserError for the first of the settings that is out of range, or no finite number.

    defaults: sizes that may be 0, which stands for those of the checkpoint.
    """
    positive = [name for name in POSITIVE if name not in defaults]
    ranges.check_ranges(settings, at_least_one=positive, not_negative=(*NOT_NEGATIVE, *defaults), rates=RATES)
