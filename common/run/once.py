"""Equal work is done once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable


def firsts(items: Iterable[Hashable]) -> list[int]:
    """For every item the place of the first that equals it; its own where none before does.

    What was measured at that place holds here too, wherever measuring moves nothing and draws nothing.
    """
    places: dict[Hashable, int] = {}
    return [places.setdefault(item, place) for place, item in enumerate(items)]
