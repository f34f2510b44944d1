"""Settings outside their range are found before anything is read or trained. Which are which, the paper says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from common.cli.errors import UserError


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


def refuse_idle(settings: Any, idle: Mapping[str, str], given: frozenset[str] | None = None) -> None:
    """Settings that do nothing beside the others are refused, not ignored.

    idle: setting -> what it would need to act, such as "--crop padded". given: the settings that flags or a file set
    (``RunOptions.given``); a profile or a variant may well hold such a setting for another choice of the user's. None
    (no command line): every setting that differs from its default counts as given. Raises UserError for the first.
    """
    defaults = {f.name: f.default for f in dataclasses.fields(settings)}
    for name, needs in idle.items():
        value = getattr(settings, name)
        if name in given if given is not None else value != defaults[name]:
            raise UserError(f"--{name.replace('_', '-')} {value} does nothing here: it acts with {needs} only")
