"""Settings outside their range are found before anything is read or trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.cli import ranges

POSITIVE = (
    "epochs", "batch_size", "eval_batch_size", "channels", "layers", "cells", "width", "bptt", "recent", "neighbours",
    "select_rounds", "select_candidates", "select_batch_size", "evaluate_every", "probe_every", "probe_images",
    "rank_cells", "nonmono",
)  # fmt: skip
ABOVE_ZERO = ("clip", "tau_max", "tau_min")
NOT_NEGATIVE = (
    "constraints", "train_images", "select_images", "select_rows", "rank_images", "recalibrate_batches",
    "recalibrate_chunks", "epoch_candidates",
    "max_tokens", "max_types", "workers", "learning_rate", "weight_decay", "rollbacks",
    "learning_rate_min", "arch_learning_rate", "arch_weight_decay", "auxiliary_weight", "cutout", "alpha", "beta",
)  # fmt: skip
SHARES = ("mix", "train_portion", "penalty", "label_smoothing")
DROPS = ("momentum", "drop_path", "drop_output", "drop_hidden", "drop_x", "drop_input", "drop_embedding")


def check_ranges(settings: Any, defaults: Sequence[str] = ()) -> None:
    """Raises UserError for the first of the settings that is out of range, or no finite number.

    defaults: sizes that may be 0, which stands for the published number or that of the training run.
    """
    ranges.check_ranges(
        settings, at_least_one=[name for name in POSITIVE if name not in defaults], above_zero=ABOVE_ZERO,
        not_negative=(*NOT_NEGATIVE, *defaults), shares=SHARES, rates=DROPS,
    )  # fmt: skip
