"""Architectures as data (Method 10): the published ones, the operation spaces, text and token forms, random draws.

An architecture is (normal cell, reduction cell); a cell is a flat tuple of nodes ``input1 op1 input2 op2``. Node j may
read states 0 .. j+1: state 0 is the output of the cell before the previous one, 1 of the previous one, k+2 of node k.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.data.names import exists
from common.errors import UserError
from common.spaces.pasted import Given, given, plain
from common.words import hint

Cell = tuple[int, ...]
Architecture = tuple[Cell, Cell]


@dataclass(frozen=True)
class Shape:
    """The shape of a derived network: 3 ``layers`` + 2 cells of which the first is ``channels`` wide.

    kind: cifar (small images; L = 6, C = 36 for training) or imagenet (three strided convolutions; L = 4, C = 52).
    classes: of its classifier. space: operations that the architecture's integers name.
    """

    kind: str = "cifar"
    channels: int = 36
    layers: int = 6
    classes: int = 10
    space: str = "small"


NODES = 5
SPACE = "nao"
SMALL = ("sep3", "sep5", "avg3", "max3", "identity")
MIDDLE = ("zero", "identity", "sep3", "sep5", "sep7", "dil3", "dil5", "dil7", "avg3", "max3")
LARGE = ("identity", "conv1", "conv3", "conv1x3", "conv1x7", "max2", "max3", "max5", "avg2", "avg3", "avg5")
SPACES = {"small": SMALL, "middle": MIDDLE, "large": LARGE}

PUBLISHED_TEXT = {
    "NAONet_V2": "1 1 0 1 2 4 0 0 0 0 2 1 0 0 0 2 0 3 0 0 0 2 0 2 2 2 1 0 0 0 0 1 0 0 0 3 0 0 0 1",
    # CIFAR-10 script until 2019-09-29 (older checkpoint), ImageNet script 2019-09-23 to 29, and V1's NAONet-B
    "NAONet_V2_2019_09_11": "0 1 0 4 0 1 1 0 2 0 2 4 2 4 2 1 2 0 3 2 1 3 0 4 0 1 1 0 0 1 0 2 2 0 0 1 1 0 1 4",
    "NAONet_V2_2019_09_23": "0 0 0 3 0 1 2 1 0 2 0 0 0 3 0 0 0 0 0 0 0 0 0 0 1 4 0 1 2 1 0 2 0 0 0 3 0 0 5 0",
    "NAONet_B": "0 1 0 2 0 1 2 2 1 3 0 2 4 0 1 3 2 1 0 3 1 1 1 0 2 1 2 4 1 0 2 3 3 1 2 2 0 2 0 2",
}
# Of NAO version 1: its operations, numbered to 15, are in none of the spaces here.
VERSION_1_TEXT = "0 7 1 15 2 8 1 7 0 6 1 7 0 8 4 7 1 5 0 7 0 7 1 13 0 6 0 14 0 9 1 10 0 14 2 6 1 11 0 7"
VERSION_1_OPERATIONS = 16
_BETWEEN = re.compile(r"[\s,;\[\](){}\"']+")


def is_text(name: str) -> bool:
    """Whether a word is the integers themselves rather than a name or a file."""
    return len(name.split()) > 1 or re.match(r"[\s\[({\"']*\d+\s*[,;]", name) is not None


def parse(text: str, space: str = "small", nodes: int = NODES, where: str = "architecture") -> Architecture:
    """An architecture from its text: integers with blanks, commas or brackets between them, normal cell first.

    Raises UserError for a wrong length, an unknown operation or a node that reads a later state, with the position.
    """
    words = [word for word in _BETWEEN.split(text) if word]
    try:
        numbers = [int(word) for word in words]
    except ValueError:
        bad = next(i for i, word in enumerate(words) if not re.fullmatch(r"[+-]?\d+", word))
        raise UserError(f"{where}: {words[bad]!r} at position {bad + 1} is no integer; write 40 integers") from None
    return check(numbers, space, nodes, where)


def check(numbers: list[int], space: str = "small", nodes: int = NODES, where: str = "architecture") -> Architecture:
    """The same from a list of integers."""
    if space not in SPACES:
        raise UserError(f"unknown space {space!r}; use {', '.join(SPACES)}")
    if len(numbers) != 8 * nodes:
        raise UserError(
            f"{where}: {len(numbers)} integers, but two cells of {nodes} nodes need {8 * nodes}; "
            f"give input1 op1 input2 op2 per node, normal cell first"
        )
    operations = len(SPACES[space])
    for position, value in enumerate(numbers):
        node = position % (4 * nodes) // 4
        cell = "normal" if position < 4 * nodes else "reduction"
        if position % 2 == 0 and not 0 <= value <= node + 1:
            raise UserError(
                f"{where}: position {position + 1} ({cell} cell, node {node + 2}) reads state {value}, but only "
                f"states 0 to {node + 1} exist there{_meant(numbers)}"
            )
        if position % 2 == 1 and not 0 <= value < operations:
            raise UserError(
                f"{where}: position {position + 1} ({cell} cell, node {node + 2}) names operation {value}, but "
                f"space {space!r} has operations 0 to {operations - 1}{_meant(numbers)}"
            )
    return tuple(numbers[: 4 * nodes]), tuple(numbers[4 * nodes :])


def numbers_of(value: Any, where: str = "architecture") -> list[int]:
    """The integers of nested lists and tuples, or of their text. Raises UserError with the position."""
    found: list[int] = []

    def walk(part: Any) -> None:
        if isinstance(part, list | tuple):
            for item in part:
                walk(item)
        elif isinstance(part, str):
            walk([int(w) if re.fullmatch(r"[+-]?\d+", w) else {w} for w in _BETWEEN.split(part) if w])
        elif isinstance(part, bool) or not hasattr(part, "__index__"):
            shown = next(iter(part)) if isinstance(part, set) else part
            raise UserError(f"{where}: {shown!r} at position {len(found) + 1} is no integer; write 40 integers")
        else:
            found.append(int(part))

    walk(value)
    return found


def _meant(numbers: list[int]) -> str:
    """What a sequence that does not fit may be instead."""
    inputs, operations = numbers[0::2], numbers[1::2]
    most, tokens = max(operations), NODES + 2
    if numbers == [int(word) for word in VERSION_1_TEXT.split()]:
        return "; this is NAONet_A of NAO version 1, whose operations are in none of the spaces here"
    if min(inputs) >= 1 and min(operations) >= tokens and most < tokens + len(LARGE):
        return f"; these look like the controller's tokens (input + 1, operation + {tokens})"
    wider = next((name for name, known in SPACES.items() if most < len(known)), "")
    if most < len(SMALL):
        return ""
    if most < VERSION_1_OPERATIONS:
        either = f"either of space {wider!r} or " if wider else ""
        return f"; the sequence is {either}of NAO version 1 (operations to {VERSION_1_OPERATIONS - 1}, as NAONet_A's)"
    return ""


def text_of(architecture: Architecture) -> str:
    """Integers separated by blanks."""
    return " ".join(str(v) for cell in architecture for v in cell)


def load(name: str, space: str = "small") -> Architecture:
    """A published name, a file (of a search, the integers as .txt or .json, own weights), the folder of a run, or the
    integers themselves. Raises UserError.
    """
    if name in PUBLISHED_TEXT:
        return parse(PUBLISHED_TEXT[name], "small")
    if is_text(name):
        return parse(name, space)
    if name and exists(name):
        found = in_file(name)
        text, held = _held(found)
        return check(numbers_of(text, found.where), held or space, where=name)
    if re.fullmatch(r"NAONet[-_]A([-_]\d+)?", name):
        raise UserError(
            f"{name} is of NAO version 1, whose operations, numbered to {VERSION_1_OPERATIONS - 1}, are in none of the "
            f"spaces here; use {', '.join(PUBLISHED_TEXT)}"
        )
    raise UserError(
        f"no architecture {name!r}{hint(name, PUBLISHED_TEXT)}; use {', '.join(PUBLISHED_TEXT)}, an architecture file, "
        f"or 40 integers in quotes"
    )


def in_file(name: str) -> Given:
    """What a file or a run's folder holds. Raises UserError for one of another space or paper."""
    found = given(Path(name), PUBLISHED_TEXT, "nao_v2")
    if "schema" in found.record and found.space != SPACE:
        raise UserError(f"{found.where} holds an architecture of space {found.space!r}; {SPACE!r} is needed here")
    return found


def _held(found: Given) -> tuple[Any, str]:
    """(integers or their text, operation space; empty where the file does not say)."""
    content, held = found.text or found.value, ""
    if isinstance(content, dict):
        content, held = content.get("text", ""), str(content.get("operations", ""))
    if not isinstance(content, str | list | tuple) or not content:
        raise UserError(f"{found.where} holds no NAO architecture: 40 integers as text are expected")
    if isinstance(content, str) and content.lstrip().startswith("{"):  # an architecture file under another name
        return _held(found._replace(value=plain(content, found.where), text=""))
    return content, held


def space_of(name: str, asked: str = "small") -> str:
    """The operation space of an architecture: small for a published name, what its file says, else what is asked for.

    Raises UserError where another one than the default is asked for beside it.
    """
    if name in PUBLISHED_TEXT:
        held = "small"
    elif name and not is_text(name) and exists(name):
        held = _held(in_file(name))[1] or asked
    else:
        held = asked
    if asked not in ("small", held):
        raise UserError(f"{name} is of space {held!r}, but --space {asked} was asked for; leave --space out")
    return held


def as_file(architecture: Architecture, space: str) -> dict[str, str]:
    """What an architecture file holds."""
    return {"text": text_of(architecture), "operations": space}


def edges(cell: Cell) -> list[tuple[int, int, int, int]]:
    """(input1, op1, input2, op2) per node."""
    return [(cell[i], cell[i + 1], cell[i + 2], cell[i + 3]) for i in range(0, len(cell), 4)]


def loose_ends(cell: Cell) -> list[int]:
    """States that no node reads, in increasing order: the cell's output."""
    read = set(cell[0::2])
    return [state for state in range(len(cell) // 4 + 2) if state not in read]


# -- token form (controller): input i -> i + 1, operation o -> o + 7, 0 starts a sequence -----------------------------


def vocabulary(space: str = "small", nodes: int = NODES) -> int:
    """1 + (B + 1) + number of operations."""
    return nodes + 2 + len(SPACES[space])


def to_tokens(architecture: Architecture) -> list[int]:
    """40 tokens in the order of the text."""
    first_op = len(architecture[0]) // 4 + 2
    return [v + 1 if i % 2 == 0 else v + first_op for cell in architecture for i, v in enumerate(cell)]


def from_tokens(tokens: list[int], nodes: int = NODES) -> Architecture:
    """Inverse of ``to_tokens``."""
    numbers = [t - 1 if i % 2 == 0 else t - nodes - 2 for i, t in enumerate(tokens)]
    return tuple(numbers[: 4 * nodes]), tuple(numbers[4 * nodes :])


def swapped(tokens: list[int], a: int, b: int) -> list[int]:
    """The two operands of node ``a`` of the normal and node ``b`` of the reduction cell exchanged: the same network."""
    out, half = list(tokens), len(tokens) // 2
    for start in (4 * a, half + 4 * b):
        out[start : start + 4] = out[start + 2 : start + 4] + out[start : start + 2]
    return out


def canonical(architecture: Architecture) -> Architecture:
    """Operands in increasing order: equal for architectures that differ in operand order only."""
    cells = []
    for cell in architecture:
        pairs = [sorted([(i1, o1), (i2, o2)]) for i1, o1, i2, o2 in edges(cell)]
        cells.append(tuple(v for node in pairs for operand in node for v in operand))
    return cells[0], cells[1]


def random_architecture(rng: np.random.RandomState, operations: int = len(SMALL), nodes: int = NODES) -> Architecture:
    """Per node: input1, op1, input2, op2, each uniform, in this draw order; normal cell first."""
    cells = []
    for _ in range(2):
        cell: list[int] = []
        for node in range(nodes):
            for _ in range(2):
                cell += [int(rng.randint(0, node + 2)), int(rng.randint(0, operations))]
        cells.append(tuple(cell))
    return cells[0], cells[1]
