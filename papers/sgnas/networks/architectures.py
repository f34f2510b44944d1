"""The space as data (Method 1): macro structures, code words, the three published architectures. Imports no torch.

A layer has six sub-blocks, each with one of four operations; an architecture is the list of kernel sizes of the active
sub-blocks, layer by layer (its length is the layer's expansion rate).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.data.names import exists
from common.errors import UserError
from common.spaces.architecture import whole
from common.spaces.pasted import given, letters, plain
from common.words import hint

SPACE = "sgnas"  # the word for it in architecture files
PRIMITIVES = ("dw_conv_3x3", "dw_conv_5x5", "dw_conv_7x7", "skip")
KERNEL_SIZES = (3, 5, 7)
SKIP = 3
SUB_BLOCKS = 6
OPS = 4
MIN_EXPANSION = 2
THRESHOLD = 0.01  # operations whose architecture parameter is not above this are neither run nor counted
STEM_CHANNELS, FIRST_CHANNELS, LAST_CHANNELS = 32, 16, 1280

Kernels = list[list[int]]
Ops = list[list[int]]


@dataclass(frozen=True)
class Macro:
    """The fixed part of a network.

    layers: (output channels, stride) of each searched layer. stem_stride: of the first convolution. input_size: side of
    the input in pixels. last_size, last_channels: what the look-up table counts in front of the last 1x1 convolution.
    The authors' table has constants there (7 x 7 for ImageNet sets, 4 x 4 for CIFAR, 320 channels), which are right at
    224 and 32 pixels; ``macro_for`` gives the true side at any other. halves_down: whether the table halves odd sides
    down behind a depthwise convolution, as the authors' does (none occurs at their sizes); convolutions halve them up.
    """

    name: str
    layers: tuple[tuple[int, int], ...]
    stem_stride: int
    input_size: int
    last_size: int
    last_channels: int = 320
    halves_down: bool = True

    @property
    def in_channels(self) -> tuple[int, ...]:
        """Input channels of each searched layer."""
        return (FIRST_CHANNELS, *(channels for channels, _ in self.layers[:-1]))


_CHANNELS = (32, 32, 40, 40, 40, 40, 80, 80, 80, 80, 96, 96, 96, 96, 192, 192, 192, 192, 320)
_STRIDES = (2, 1, 2, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)

MACROS = {
    "imagenet": Macro("imagenet", tuple(zip(_CHANNELS, _STRIDES)), 2, 224, 7),
    "cifar": Macro("cifar", tuple(zip(_CHANNELS, (1, *_STRIDES[1:]))), 1, 32, 4),
    # Five layers on 16 x 16 maps: small enough for the smoke profile; not from the paper. Its table describes itself.
    "tiny": Macro("tiny", ((16, 1), (24, 2), (24, 1), (40, 2), (40, 1)), 2, 32, 4, 40),
}


def macro_for(name: str, input_size: int = 0) -> Macro:
    """A macro structure by name, for another input size where one is given. Raises UserError for an unknown name."""
    if name not in MACROS:
        raise UserError(f"unknown macro structure {name!r}; use one of {', '.join(MACROS)}")
    macro = MACROS[name]
    if not input_size or input_size == macro.input_size:
        return macro
    last = -(-input_size // macro.stem_stride)
    for _, stride in macro.layers:
        last = -(-last // stride)
    return Macro(macro.name, macro.layers, macro.stem_stride, input_size, last, macro.last_channels, False)


def kernels_of(ops: Sequence[Sequence[int]]) -> Kernels:
    """Decode operation indices [L][6] into kernel lists: the active sub-blocks' kernels in sub-block order."""
    return [[KERNEL_SIZES[op] for op in row if op != SKIP] for row in ops]


def ops_of(kernels: Sequence[Sequence[int]]) -> Ops:
    """Encode kernel lists as operation indices [L][6], active sub-blocks moved to the front."""
    return [[KERNEL_SIZES.index(k) for k in row] + [SKIP] * (SUB_BLOCKS - len(row)) for row in kernels]


def check_kernels(kernels: Any, macro: Macro, where: str = "architecture") -> Kernels:
    """Check kernel lists against a macro structure. Raises UserError."""
    if not isinstance(kernels, list) or not all(isinstance(row, list) for row in kernels):
        raise UserError(f"{where}: expected a list of kernel lists such as [[3, 5], [7]]")
    if len(kernels) != len(macro.layers):
        raise UserError(
            f"{where}: {len(kernels)} layers, but the {macro.name} macro structure has {len(macro.layers)}; "
            f"use an architecture of that space"
        )
    for number, row in enumerate(kernels):
        if not 1 <= len(row) <= SUB_BLOCKS or any(k not in KERNEL_SIZES for k in row):
            wrong = next((f" (sub-block {i} is {k!r})" for i, k in enumerate(row) if k not in KERNEL_SIZES), "")
            raise UserError(f"{where}: layer {number} is {row}{wrong}; use 1 to {SUB_BLOCKS} kernels out of 3, 5, 7")
    return [[int(k) for k in row] for row in kernels]


def _parse(text: str) -> Kernels:
    return [[int(k) for k in row] for row in text.split()]


# What the published generator gives for 365, 320 and 275.
SGNAS_A = _parse(
    "573733 7333 353 77375 7533 75557 73377 73333 75573 7553 5735 7737 7353 7735 3733 33373 7337 777 33737"
)
SGNAS_B = _parse("5735 553 553 55355 55533 35555 35577 5537 5557 5553 55 555 535 3753 3733 3777 7557 535 33737")
SGNAS_C = _parse("5535 553 553 553 5553 355 3557 553 555 5553 55 555 535 555 333 75 3577 73 33733")

PUBLISHED = {"SGNAS-A": SGNAS_A, "SGNAS-B": SGNAS_B, "SGNAS-C": SGNAS_C}
PUBLISHED_TARGETS = {"SGNAS-A": 365.0, "SGNAS-B": 320.0, "SGNAS-C": 275.0}


@dataclass(frozen=True)
class Architecture:
    """Kernel lists, and what their source says beside them.

    macro: the name of the structure; "" where the source leaves it to the data set, as published names and pasted lists
    do. The rest: of the search or training that wrote the file; 0, "" and None where nothing is said.
    """

    name: str
    kernels: Kernels
    macro: str = ""
    dataset: str = ""
    classes: int = 0
    input_size: int = 0
    se: bool | None = None
    activation: str = ""


def read(source: Any, macro: str | None = None) -> Architecture:
    """Of a published name, kernel lists or their text, a file (an architecture file, lists as .json or .txt, own
    weights), or the folder of a run. ``macro``: the structure wanted. Raises UserError naming layer and sub-block.
    """
    if isinstance(source, Architecture):
        return source
    if isinstance(source, list | tuple):
        return _listed("lists", source, macro, "architecture")
    word = str(source).strip()
    if word in PUBLISHED:
        return Architecture(word, PUBLISHED[word], macro or "")
    there = isinstance(source, Path) or (word != "" and "\n" not in word and exists(word))
    if not there and (same := [name for name in PUBLISHED if letters(name) == letters(word)]):
        return Architecture(same[0], PUBLISHED[same[0]], macro or "")
    if not there and not re.search(r"[\s,;\[(]", word):
        raise UserError(
            f"no architecture {word!r}{hint(word, PUBLISHED)}; use {', '.join(PUBLISHED)}, an architecture file, or "
            f"kernel lists"
        )
    found = given(Path(word), PUBLISHED, "sgnas") if there else None
    if found is None or not found.space:
        where = found.where if found else ""
        value = plain(word, "") if found is None else plain(found.text, where) if found.text else found.value
        return _listed(Path(where).stem if where else "lists", value, macro, where or "architecture")
    if found.space != SPACE:
        raise UserError(f"{found.where} holds an architecture of space {found.space!r}; {SPACE!r} is needed here")
    content, said = found.value, found.record.get("origin") or found.record
    if not isinstance(content, dict) or content.get("macro") not in MACROS:
        raise UserError(f"{word} holds no SGNAS architecture: kernels and the name of a macro structure are expected")
    wanted = macro or str(content["macro"])
    return Architecture(
        word, check_kernels(content.get("kernels"), MACROS[wanted], word), wanted, str(said.get("dataset", "")),
        whole(said.get("classes"), "classes", word), whole(said.get("input_size"), "input_size", word),
        said.get("se"), str(said.get("activation", "")),
    )  # fmt: skip


def _listed(name: str, value: Any, macro: str | None, where: str) -> Architecture:
    """Of plain values: a row is a list of kernels, or their digits as a number or text (``5735``)."""
    if isinstance(value, dict):
        macro, value = macro or value.get("macro"), value.get("kernels")
    if not isinstance(value, list | tuple):
        raise UserError(f"{where}: expected a list of kernel lists such as [[3, 5], [7]]")
    rows: list[Any] = []
    for number, row in enumerate(value):
        digits = str(row).strip()
        if isinstance(row, list | tuple):
            rows.append(list(row))
        elif not isinstance(row, int | str) or not re.fullmatch(r"\d+", digits):
            raise UserError(f"{where}: layer {number} is {row!r}; write its kernels as [5, 7, 3, 5] or 5735")
        else:
            rows.append([int(digit) for digit in digits])
    if macro is None and len(rows) == len(MACROS["tiny"].layers):
        macro = "tiny"
    if macro is not None and macro not in MACROS:
        raise UserError(f"{where}: unknown macro structure {macro!r}; use one of {', '.join(MACROS)}")
    return Architecture(name, check_kernels(rows, MACROS[macro or "imagenet"], where), macro or "")


def load_kernels(name: str, macro: str | None = None) -> tuple[Kernels, str]:
    """(kernel lists, name of their macro structure) of what ``read`` takes. Raises UserError.

    ``macro``: the structure wanted; a published architecture fits imagenet and cifar.
    """
    found = read(name, macro)
    return found.kernels, found.macro or macro or "imagenet"
