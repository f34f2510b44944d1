"""Settings outside their range are found before anything is read or trained."""

from __future__ import annotations

from typing import Any

from common.cli import ranges
from common.cli.errors import UserError

POSITIVE = (
    "layers", "channels", "epochs", "evaluate_every", "new_architectures", "generation_seeds",
    "controller_batch_size", "controller_copies", "controller_embedding", "controller_hidden", "maximum_step",
    "alone_epochs", "valid_images", "controller_mlp_hidden", "decay_every", "search_epochs", "search_iterations",
)  # fmt: skip
NOT_NEGATIVE = (
    "train_images", "score_images", "controller_epochs", "architectures", "learning_rate", "minimum_learning_rate",
    "weight_decay", "cutout", "workers", "auxiliary_weight", "controller_learning_rate", "controller_mlp_layers",
    "clip", "controller_clip", "controller_weight_decay", "parts", "final_drop_path_steps", "drop_path_steps",
    "alone_drop_path_steps", "search_final",
)  # fmt: skip
KEEP = ("keep", "final_keep", "alone_keep", "drop_path_keep", "final_drop_path_keep", "alone_drop_path_keep")


def check_ranges(settings: Any) -> None:
    """Raises UserError for the first of the settings that is out of range, or no finite number."""
    ranges.check_ranges(
        settings, at_least_one=POSITIVE, above_zero=KEEP, not_negative=NOT_NEGATIVE,
        shares=(*KEEP, "label_smoothing", "trade_off"),
        rates=("momentum", "optimizer_momentum", "controller_mlp_dropout"),
    )  # fmt: skip
    if getattr(settings, "cutout", 0) % 2:
        raise UserError(f"--cutout must be even, not {settings.cutout}: the square reaches half of it to every side")
