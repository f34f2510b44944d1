"""What the authors announced but never released: a clear line instead of a missing choice."""

from __future__ import annotations

from common.cli.errors import UserError


def recurrent_gdas(settings, options) -> dict:
    """GDAS in the recurrent space."""
    raise UserError("GDAS for recurrent cells was never released: there is nothing to replicate; use --method random")
