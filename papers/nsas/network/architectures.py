"""Published architectures as data: pairs (operation, input), concat 2..5;
the recurrent cell concat 1..8.
"""

from __future__ import annotations

from typing import NamedTuple

PRIMITIVES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
_SHORT = {
    "none": 0, "max": 1, "avg": 2, "skip": 3, "sep3": 4, "sep5": 5, "dil3": 6, "dil5": 7,
}  # fmt: skip


class Encoded(NamedTuple):
    """A CNN architecture as two cells of eight (operation index, input) pairs."""

    normal: tuple[tuple[int, int], ...]
    reduce: tuple[tuple[int, int], ...]


def _cell(text: str) -> tuple[tuple[int, int], ...]:
    """ "sep5 1  dil3 0 ..." -> pairs."""
    words = text.split()
    return tuple((_SHORT[op], int(state)) for op, state in zip(words[::2], words[1::2]))


CNN = {
    "Random_NSAS": Encoded(
        _cell("sep5 1 dil3 0  dil3 1 sep3 0  sep5 1 avg 0  skip 0 none 1"),
        _cell("dil3 0 none 1  dil3 0 avg 1  dil5 2 dil5 3  none 0 sep3 3"),
    ),
    "Random_NSAS_C": Encoded(
        _cell("sep3 1 dil3 0  dil3 2 sep3 0  sep3 3 skip 0  sep3 0 dil5 4"),
        _cell("dil3 0 max 1  dil3 0 avg 2  dil3 0 sep3 3  avg 0 dil5 4"),
    ),
    # comparison cells of the same repository
    "XNAS": Encoded(
        _cell("sep3 1 skip 0  sep3 0 sep3 2  sep3 3 sep3 1  dil5 4 sep3 0"),
        _cell("max 0 avg 1  avg 0 skip 2  dil3 3 max 0  dil5 4 avg 0"),
    ),
    "PC_DARTS_cifar": Encoded(
        _cell("sep3 1 skip 0  sep3 0 dil3 1  sep5 0 sep3 1  avg 0 dil3 1"),
        _cell("sep5 1 max 0  sep5 1 sep5 2  sep3 0 sep3 3  sep3 1 sep3 2"),
    ),
    "PC_DARTS_image": Encoded(
        _cell("skip 1 sep3 0  sep3 0 skip 1  sep3 1 sep3 3  sep3 1 dil5 4"),
        _cell("sep3 0 skip 1  dil5 2 max 1  sep3 2 sep3 1  sep5 0 sep3 3"),
    ),
    "PDARTS": Encoded(
        _cell("skip 0 dil3 1  skip 0 sep3 1  sep3 1 sep3 3  sep3 0 dil5 4"),
        _cell("avg 0 sep5 1  sep3 0 dil5 2  max 0 dil3 1  dil3 1 dil5 3"),
    ),
    "GDAS_v": Encoded(
        _cell("sep3 1 sep3 0  sep3 2 skip 0  dil3 3 sep5 0  skip 0 dil3 4"),
        _cell("dil5 1 avg 0  avg 0 skip 2  max 0 max 3  max 0 dil3 4"),
    ),
}

# cells whose supernet accuracy the 2019 notebook printed after every epoch
MONITORED = (
    Encoded(
        _cell("none 0 dil5 1  none 0 dil3 1  none 0 dil5 3  skip 1 sep5 4"),
        _cell("sep5 0 dil5 1  dil3 0 sep3 1  skip 0 dil5 1  avg 4 sep3 2"),
    ),
    Encoded(
        _cell("dil3 0 dil3 1  skip 1 max 0  sep3 1 dil3 3  avg 4 dil5 0"),
        _cell("avg 1 sep5 0  dil5 2 max 0  dil5 1 max 3  sep5 3 max 0"),
    ),
    Encoded(
        _cell("avg 0 dil3 1  none 1 skip 2  avg 1 none 3  none 0 avg 3"),
        _cell("dil3 1 dil3 0  skip 0 none 1  sep3 2 none 0  max 4 sep5 3"),
    ),
    Encoded(
        _cell("dil5 0 dil3 1  sep3 1 sep5 0  avg 1 skip 2  sep5 2 dil5 0"),
        _cell("none 1 dil3 0  sep5 0 skip 2  dil3 3 sep5 1  dil3 3 skip 4"),
    ),
)

# cells stored in the notebooks of the NAS-Bench-201 searches (section 6.5): digits in edge order
NB201 = {
    "GDAS_NSAS": "330322",
    "GDAS_NSAS_3": "330322",
    "GDAS_NSAS_G": "330322",
    "GDAS_NSAS_R": "330332",
    "GDAS_compensation": "330323",
    "RandomNAS_NSAS": "310440",
    "RandomNAS_NSAS_3": "011441",
    "RandomNAS_NSAS_4": "344442",
    "RandomNAS_NSAS_5": "322141",
    "RandomNAS_NSAS_R": "202420",
    "RandomNAS_LoW": "034142",
    "RandomNAS_compensation": "344410",
}

# (initial channels, layers) of each published network; ImageNet comparison cells use 48 channels
SIZES = {"cifar10": (36, 20), "cifar100": (36, 20), "imagenet": (50, 14)}
