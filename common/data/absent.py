"""Published sets that are not here, as a plan takes them: their official numbers, and pictures of their size.

A plan says so (``ABSENT``); a run never sees them.
"""

from __future__ import annotations

import io
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.data.names import CLASSES
from common.data.pins import data_root, fetch_command, pins_of

IMAGES = {
    "cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000), "imagenet16-120": (151_700, 6_000),
    "tiny-imagenet-20": (10_000, 1_000), "imagenet": (1_281_167, 50_000),
}  # fmt: skip
"""Images of the training and of the test part."""
WORDS = {"train": (42_068, 887_521), "valid": (3_370, 70_390), "test": (3_761, 78_669)}
"""Lines and words of Penn Treebank."""
PICTURE = {"imagenet": (500, 375), "tiny-imagenet-20": (64, 64)}  # width and height of a usual one

ABSENT: dict[str, str] = {}
"""Sets that something stood in for in this process, each with the command that gets it."""


def stood_in_for(name: str, options: Any) -> bool:
    """Whether a plan counts on a set that is not there at all. A damaged one is refused as in a run."""
    if not getattr(options, "plan", False) or name not in (*IMAGES, "ptb"):
        return False
    root = data_root(options)
    folder = root / (name if name in PICTURE else str(pins_of(name)["folder"]))
    if folder.exists():
        return False
    ABSENT[name] = "python -m reproductions data prepare imagenet" if name == "imagenet" else fetch_command(name, root)
    return True


def counts(name: str, split: str) -> tuple[int, int]:
    """(images, classes) of a part: ``train``, or the test part under any other name."""
    return IMAGES[name][split != "train"], CLASSES[name]


class BlankStore:
    """A picture of noise under every number, encoded as those of the set usually are."""

    def __init__(self, name: str) -> None:
        self.size = PICTURE[name]

    def read(self, position: int) -> bytes:
        return _encoded(self.size)

    def name(self, position: int) -> str:
        return f"a stand-in for picture {position}"

    def item(self, position: int) -> tuple[str, bytes]:
        return self.name(position), self.read(position)

    def files(self) -> list[Path]:
        return []


@cache
def _encoded(size: tuple[int, int]) -> bytes:
    noise = np.random.RandomState(0).randint(0, 256, (size[1] // 8 + 1, size[0] // 8 + 1, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def text() -> dict[str, list[list[str]]]:
    """Lines of words in the numbers of Penn Treebank, with its number of different ones."""
    found, number = {}, 0
    for part, (lines, words) in WORDS.items():
        limits = np.linspace(0, words, lines + 1).astype(int)
        found[part] = [[str((number + w) % 9_999) for w in range(low, high)] for low, high in pairwise(limits)]
        number += words
    return found
