"""Settings outside their range are found before anything is read or trained."""

from __future__ import annotations

from typing import Any

from common.cli import ranges

POSITIVE = (
    "epochs",
    "batch_size",
    "slice",
    "pool_size",
    "eval_batch_size",
    "eval_every",
    "subset_images",
    "paths",
)
ABOVE_ZERO = ("decay_epochs", "optimizer_eps")
NOT_NEGATIVE = (
    "parts", "update_every",
    "train_images", "holdout", "subset_classes", "select_images", "recalibrate_batches", "candidates", "workers",
    "cooldown", "schedule_images", "lr", "meta_lr", "weight_decay", "warmup_epochs", "pad", "jitter", "randaugment",
    "randaugment_operations", "randaugment_std", "macs_min", "min_lr", "warmup_lr",
)  # fmt: skip
SHARES = ("decay_rate", "smoothing", "erasing", "ema_decay", "scale_min")
DROPS = ("dropout", "momentum", "alpha")


def check_ranges(settings: Any) -> None:
    """Raises UserError for the first of the settings that is out of range, or no finite number."""
    ranges.check_ranges(
        settings, at_least_one=POSITIVE, above_zero=ABOVE_ZERO, not_negative=NOT_NEGATIVE, shares=SHARES, rates=DROPS
    )
