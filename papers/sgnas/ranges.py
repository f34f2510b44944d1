"""Settings outside their range are found before anything is read or trained."""

from __future__ import annotations

from typing import Any

from common.cli import ranges

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
    ranges.check_ranges(
        settings, at_least_one=POSITIVE, above_zero=ABOVE_ZERO, not_negative=NOT_NEGATIVE, shares=SHARES, rates=DROPS
    )
