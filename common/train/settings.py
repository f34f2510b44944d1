"""Settings that trainings of all papers have."""

from __future__ import annotations

from typing import Any

from common.settings import setting

FROM_WEIGHTS = "weights to start from: a file or a training's folder, whose architecture and sizes are then taken"


def checkpoint_setting() -> Any:
    """The field ``checkpoint`` of a training; a training from scratch is recorded without it."""
    return setting("", FROM_WEIGHTS, recorded=False)
