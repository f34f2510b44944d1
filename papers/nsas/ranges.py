"""Settings outside their range are found before anything is read or trained."""

from __future__ import annotations

from typing import Any

from common import ranges

POSITIVE = (
    "epochs", "batch_size", "eval_batch_size", "channels", "layers", "cells", "width", "bptt", "recent", "neighbours",
    "select_rounds", "select_candidates", "select_batch_size", "evaluate_every", "probe_every", "probe_images",
    "rank_cells",
)  # fmt: skip
NOT_NEGATIVE = (
    "constraints", "train_images", "select_images", "select_rows", "rank_images", "recalibrate_batches",
    "recalibrate_chunks", "max_tokens", "max_types", "workers", "learning_rate", "weight_decay", "rollbacks",
)  # fmt: skip
SHARES = ("mix", "train_portion", "penalty", "label_smoothing")
DROPS = ("drop_path", "drop_output", "drop_hidden", "drop_x", "drop_input", "drop_embedding")


def check_ranges(settings: Any) -> None:
    """Raises UserError for the first of the settings that is out of range, or no finite number."""
    ranges.check_ranges(settings, at_least_one=POSITIVE, not_negative=NOT_NEGATIVE, shares=SHARES, rates=DROPS)
