"""Published cells as data (EvNAS README; DARTS for comparison). Pairs (operation, input state), two per node."""

from __future__ import annotations

from typing import Any

CONCAT = [2, 3, 4, 5]
_NAMES = {
    "s3": "sep_conv_3x3",
    "s5": "sep_conv_5x5",
    "d3": "dil_conv_3x3",
    "d5": "dil_conv_5x5",
    "mp": "max_pool_3x3",
    "ap": "avg_pool_3x3",
    "sk": "skip_connect",
}


def _cells(normal: str, reduce: str) -> dict[str, Any]:
    """ "s3 0 s3 1 …" twice -> a genotype in the form of an architecture file."""
    cells = {}
    for kind, text in (("normal", normal), ("reduce", reduce)):
        words = text.split()
        cells[kind] = [[_NAMES[op], int(state)] for op, state in zip(words[::2], words[1::2], strict=True)]
        cells[f"{kind}_concat"] = list(CONCAT)
    return cells


PUBLISHED: dict[str, dict[str, Any]] = {
    "EvNASA": _cells("s3 0 s3 1  s5 2 s3 1  sk 0 sk 2  d5 3 s3 1", "d5 1 ap 0  s3 0 ap 2  sk 1 sk 2  sk 1 s5 0"),
    "EvNASB": _cells("s5 0 s3 1  s5 2 mp 0  s3 0 s3 1  sk 0 s5 2", "sk 1 mp 0  mp 0 ap 1  sk 2 ap 3  s5 2 s5 0"),
    "EvNASC": _cells("sk 0 s3 1  sk 2 s5 1  mp 1 s3 0  s3 0 s5 3", "s5 1 d3 0  s5 0 sk 1  mp 0 mp 1  mp 0 mp 2"),
    "DARTS_V1": _cells("s3 1 s3 0  sk 0 s3 1  sk 0 s3 1  s3 0 sk 2", "mp 0 mp 1  sk 2 mp 0  mp 0 sk 2  sk 2 ap 0"),
    "DARTS_V2": _cells("s3 0 s3 1  s3 0 s3 1  s3 1 sk 0  sk 0 d3 2", "mp 0 mp 1  sk 2 mp 1  mp 0 sk 2  sk 2 mp 1"),
}
