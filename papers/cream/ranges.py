"""Settings outside their range are found before anything is read or trained."""

from __future__ import annotations

import math
from typing import Any

from common.errors import UserError

POSITIVE = (
    "batch_size",
    "parts",
    "slice",
    "pool_size",
    "update_every",
    "eval_batch_size",
    "eval_every",
    "subset_images",
)
ABOVE_ZERO = ("decay_epochs", "optimizer_eps")
NOT_NEGATIVE = (
    "train_images", "holdout", "subset_classes", "select_images", "recalibrate_batches", "candidates", "workers",
    "cooldown", "schedule_images", "lr", "meta_lr", "weight_decay", "warmup_epochs", "pad", "jitter", "randaugment",
    "randaugment_operations", "randaugment_std",
)  # fmt: skip
SHARES = ("smoothing", "erasing", "ema_decay", "scale_min")
DROPS = ("dropout", "momentum", "alpha")


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
