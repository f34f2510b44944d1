"""Text for language models: Penn Treebank files, a folder of own text, or the embedded King James Bible."""

from __future__ import annotations

import lzma
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from common.data import absent
from common.data.digests import hash_file
from common.data.pins import (
    EMBEDDED_SHA256,
    allow_unpinned,
    check_file,
    data_root,
    embedded_file,
    fetch_command,
    pin_of,
    pins_of,
)
from common.errors import UserError
from common.words import hint

TEXTS = ("kjv", "ptb")
PARTS = ("train", "valid", "test")
PTB_TYPES = 10_000
UNKNOWN, END = "<unk>", "<eos>"
BLOCK = 100  # verses in a row that go to the same part
_WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*")


@dataclass(frozen=True)
class Corpus:
    """Token ids of the three parts (int64, 1-D) and the vocabulary, words in order of first appearance."""

    train: torch.Tensor
    valid: torch.Tensor
    test: torch.Tensor
    vocabulary: tuple[str, ...]
    name: str
    pinned: bool
    pins: dict[str, str] = field(default_factory=dict)

    @property
    def types(self) -> int:
        """Size of the vocabulary, ``<eos>`` included."""
        return len(self.vocabulary)

    @classmethod
    def open(cls, name: str, options: Any = None, max_tokens: int = 0, max_types: int = 0) -> Corpus:
        """Open ``kjv`` (embedded), ``ptb`` (``penn/`` under the data root) or a folder with train.txt, valid.txt,
        test.txt.

        max_tokens: keep at most so many training tokens, and a tenth of it in each other part (whole lines; 0: all).
        max_types: vocabulary size including ``<unk>`` and ``<eos>``; rarer words become ``<unk>`` (0: all; not for
        ptb). Raises UserError for unknown names, absent or damaged files, and a ptb vocabulary that has not 10,000
        words.
        """
        if name.lower() in TEXTS and not (name.lower() != name and Path(name).is_dir()):
            name = name.lower()
        if name == "kjv":
            lines = _kjv_lines()
            pins, pinned = {"embedded/kjv.txt.xz": "sha256:" + EMBEDDED_SHA256["kjv.txt.xz"]}, True
        elif name == "ptb":
            if max_types:
                raise UserError("ptb has its own vocabulary of 10,000 words; leave max_types at 0")
            found = (absent.text(), {}, True) if absent.stood_in_for("ptb", options) else _ptb_lines(options)
            lines, pins, pinned = found
        else:
            lines, pins, pinned = _folder_lines(name)
        if max_tokens:
            lines = {part: _first(lines[part], max_tokens if part == "train" else max_tokens // 10) for part in PARTS}
        if max_types:
            lines = _limit(lines, max_types)
        ids: dict[str, int] = {}
        parts = [_encode(lines[part], ids) for part in PARTS]
        if name == "ptb" and not max_tokens and len(ids) != PTB_TYPES:
            raise UserError(
                f"ptb has {len(ids)} words, {PTB_TYPES} expected: these are not Mikolov's files; get them with: "
                f"{fetch_command('ptb', data_root(options))}"
            )
        for part, tokens in zip(PARTS, parts, strict=True):
            if not len(tokens):
                raise UserError(f"{name}: the {part} part holds no words; use a longer text or raise max_tokens")
        return cls(parts[0], parts[1], parts[2], vocabulary=tuple(ids), name=Path(name).name, pinned=pinned, pins=pins)


def batchify(tokens: torch.Tensor, batch: int) -> torch.Tensor:
    """Cut a text into ``batch`` equal columns: int64 [length // batch, batch]; the remainder is dropped.

    Raises UserError when the text has fewer than two rows (an input and a target).
    """
    rows = tokens.numel() // batch
    if rows < 2:
        raise UserError(f"{tokens.numel()} tokens are too few for {batch} columns; lower the batch size")
    return tokens[: rows * batch].view(batch, rows).t().contiguous()


def _kjv_lines() -> dict[str, list[list[str]]]:
    """Verses as lower-cased words; of every ten blocks of 100 verses the ninth is validation, the tenth test text."""
    text = lzma.decompress(embedded_file("kjv.txt.xz")).decode("utf-8")
    lines: dict[str, list[list[str]]] = {part: [] for part in PARTS}
    for number, verse in enumerate(text.splitlines()):
        words = _WORD.findall(verse.lower())
        if words:
            block = number // BLOCK % 10
            lines["valid" if block == 8 else "test" if block == 9 else "train"].append(words)
    return lines


def _ptb_lines(options: Any) -> tuple[dict[str, list[list[str]]], dict[str, str], bool]:
    entry, root = pins_of("ptb"), data_root(options)
    remedy = fetch_command("ptb", root)
    lines, pins, pinned = {}, {}, True
    for part in PARTS:
        path = root / entry["folder"] / f"{part}.txt"
        checked = check_file(
            path, pin_of("ptb", path.name), root=root, remedy=remedy, unpinned_allowed=allow_unpinned(options)
        )
        lines[part] = _read_lines(path)
        pins[f"{entry['folder']}/{path.name}"] = checked.digest
        pinned &= checked.pinned
    return lines, pins, pinned


def _folder_lines(name: str) -> tuple[dict[str, list[list[str]]], dict[str, str], bool]:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"unknown text or missing folder {name!r}{hint(name, TEXTS)}; known texts: {', '.join(TEXTS)}, or a folder "
            f"with train.txt, valid.txt and test.txt"
        )
    lines, pins = {}, {}
    for part in PARTS:
        path = folder / f"{part}.txt"
        if not path.is_file():
            raise UserError(f"{path} is missing; a text folder needs train.txt, valid.txt and test.txt")
        lines[part] = _read_lines(path)
        pins[f"{folder.name}/{path.name}"] = "sha256:" + hash_file(path, "sha256")
    return lines, pins, False


def _read_lines(path: Path) -> list[list[str]]:
    """The words of each line. As in the published readers a blank line still counts: it is an ``<eos>`` alone."""
    try:
        with path.open(encoding="utf-8") as handle:
            return [line.split() for line in handle]
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: byte {error.start}; convert it") from None


def _first(lines: list[list[str]], tokens: int) -> list[list[str]]:
    """The leading whole lines that hold at most so many tokens (``<eos>`` counted)."""
    kept, count = [], 0
    for words in lines:
        count += len(words) + 1
        if count > tokens:
            break
        kept.append(words)
    return kept


def _limit(lines: dict[str, list[list[str]]], types: int) -> dict[str, list[list[str]]]:
    """Replace all but the most frequent ``types - 2`` words of the training text (ties: alphabetical) by ``<unk>``."""
    if types < 3:
        raise UserError(f"a vocabulary of {types} leaves no word beside {UNKNOWN} and {END}; use at least 3")
    counts = Counter(word for words in lines["train"] for word in words if word != UNKNOWN)
    kept = {word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: types - 2]}
    return {part: [[word if word in kept else UNKNOWN for word in words] for words in lines[part]] for part in PARTS}


def _encode(lines: Iterable[list[str]], ids: dict[str, int]) -> torch.Tensor:
    """Token ids with ``<eos>`` after every line; new words get the next id."""
    tokens = []
    for words in lines:
        for word in (*words, END):
            tokens.append(ids.setdefault(word, len(ids)))
    return torch.tensor(tokens, dtype=torch.int64)
