"""A loss that is no finite number ends a run before it does harm."""

from __future__ import annotations

import math
from typing import Any

from common.errors import UserError
from common.run import distributed
from common.run.progress import short


def check_finite(loss: Any, *, weight: float = 1.0, **where: Any) -> float:
    """The loss as a number; UserError for a NaN or infinite one, saying where. Call it before the update.

    In several processes it is the mean over all of them, each weighted by ``weight`` (its images; 0 for an empty
    share), so that all raise or none: a common act of all processes. One synchronisation.
    """
    value = float(loss.detach() if hasattr(loss, "detach") else loss)
    if distributed.world_size() > 1:
        import torch

        mean = torch.tensor([value], dtype=torch.float64)
        distributed.all_reduce_mean([mean], weight=weight)
        value = mean.item()
    if not math.isfinite(value):
        place = ", ".join(f"{key} {short(val)}" for key, val in where.items())
        raise UserError(
            f"the loss is {value} at {place or 'this step'}: the run has diverged and stops before this update; look "
            f"at the data, or start over (--no-resume, or another --out) with a lower learning rate or a gradient clip"
        )
    return value
