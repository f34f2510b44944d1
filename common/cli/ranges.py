"""Settings outside their range are found before anything is read or trained. Which are which, the paper says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from common.cli.errors import UserError
from common.cli.settings import refuse_idle as refuse_idle


def check_ranges(
    settings: Any, *, at_least_one: Sequence[str] = (), above_zero: Sequence[str] = (),
    not_negative: Sequence[str] = (), shares: Sequence[str] = (), rates: Sequence[str] = (),
) -> None:  # fmt: skip
    """Each argument lists names of settings (those that ``settings`` lacks are passed over).

    shares: from 0 to 1; rates: from 0 to 1 without 1 (dropout, momentum).
    Raises UserError for the first that is out of range, or no finite number.
    """
    for names, fits, rule in (
        (at_least_one, lambda v: v >= 1, "at least 1"),
        (above_zero, lambda v: v > 0, "above 0"),
        (not_negative, lambda v: v >= 0, "0 or more"),
        (shares, lambda v: 0 <= v <= 1, "between 0 and 1"),
        (rates, lambda v: 0 <= v < 1, "between 0 and 1, 1 excluded"),
    ):
        for name in names:
            value = getattr(settings, name, None)
            if value is not None and not (math.isfinite(value) and fits(value)):
                raise UserError(f"--{name.replace('_', '-')} must be {rule}, not {value}")
