"""Settings outside their range are found before anything is read or trained."""

from __future__ import annotations

import math
from typing import Any

from common.errors import UserError

POSITIVE = (
    "batch_size", "paths", "targets_per_step", "constraint_channels", "width", "generator_layers", "cosine_epochs",
    "population", "parents", "generator_steps", "candidates", "candidate_batches", "repeats",
)  # fmt: skip
ABOVE_ZERO = ("target_step", "validation_step", "tau", "tau_decay", "step", "decay_epochs", "prior_tolerance")
NOT_NEGATIVE = (
    "train_images", "search_images", "supernet_epochs", "generator_epochs", "recalibrate", "workers", "generations",
    "classes", "learning_rate", "generator_lr", "weight_decay", "target_noise", "tolerance",
)  # fmt: skip
SHARES = ("train_portion", "label_smoothing", "mutation", "ema")
DROPS = ("dropout", "momentum")


def check_ranges(settings: Any) -> None:
    """Raises UserError for the first of the settings that is out of range, or no finite number."""
    for names, fits, rule in (
        (POSITIVE, lambda v: v >= 1, "at least 1"),
        (ABOVE_ZERO, lambda v: v > 0, "above 0"),
        (NOT_NEGATIVE, lambda v: v >= 0, "0 or more"),
        (SHARES, lambda v: 0 <= v <= 1, "between 0 and 1"),
        (DROPS, lambda v: 0 <= v < 1, "between 0 and 1, 1 excluded"),
    ):
        for name in names:
            value = getattr(settings, name, None)
            if value is not None and not (math.isfinite(value) and fits(value)):
                raise UserError(f"--{name.replace('_', '-')} must be {rule}, not {value}")
