"""The pool of scored architectures and its files (one architecture per line; accuracies in a file of their own)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.run.files import write_text
from papers.nao_v2.networks.architectures import (
    NODES,
    SPACES,
    Architecture,
    canonical,
    from_tokens,
    parse,
    random_architecture,
    text_of,
    to_tokens,
)


def ranking(accuracies: Sequence[float]) -> list[int]:
    """Positions from best to worst; equal scores keep their order (undefined in the original)."""
    return sorted(range(len(accuracies)), key=lambda k: -accuracies[k])


def best_first(
    architectures: Sequence[Architecture], accuracies: Sequence[float]
) -> tuple[list[Architecture], list[float]]:
    """Both lists from best to worst."""
    places = ranking(accuracies)
    return [architectures[k] for k in places], [accuracies[k] for k in places]


def scaled(accuracies: Sequence[float]) -> list[float]:
    """(a - min) / (max - min): targets of the predictor (Method 6); 0.5 when all are equal (original: divides by 0)."""
    low, high = min(accuracies), max(accuracies)
    return [(a - low) / (high - low) if high > low else 0.5 for a in accuracies]


def read_pool(path: Path, space: str = "small", nodes: int = NODES) -> list[Architecture]:
    """Architectures of a pool file. Raises UserError naming the line of a bad, repeated or foreign architecture."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read pool {path}: {error}; give a text file with 40 integers per line") from None
    found: list[Architecture] = []
    seen: dict[Architecture, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            architecture = parse(line, space, nodes, where)
        except UserError as error:
            others = [s for s in SPACES if s != space and _parses(line, s, nodes)]
            if others and found:
                raise UserError(
                    f"{where} is of space {others[0]!r}, the lines before it of {space!r}; split the pool"
                ) from None
            raise error
        if architecture in seen:
            raise UserError(f"{where} repeats line {seen[architecture]}; remove one of them")
        seen[architecture] = number
        found.append(architecture)
    if not found:
        raise UserError(f"{path} holds no architecture; write 40 integers per line")
    return found


def _parses(line: str, space: str, nodes: int) -> bool:
    try:
        parse(line, space, nodes)
    except UserError:
        return False
    return True


def write_pool(path: Path, architectures: Sequence[Architecture]) -> None:
    """One text per line."""
    write_text(Path(path), "".join(text_of(a) + "\n" for a in architectures))


def write_scores(path: Path, scores: Sequence[float]) -> None:
    """One number per line (fractions during the search, percent in the final file)."""
    write_text(Path(path), "".join(f"{s!r}\n" for s in scores))


def random_pool(rng: np.random.RandomState, count: int, operations: int, nodes: int = NODES) -> list[Architecture]:
    """``count`` random architectures; repetitions are possible (and as unlikely) as in the original."""
    return [random_architecture(rng, operations, nodes) for _ in range(count)]


def select_new(
    decoded: Sequence[Sequence[int]], known: set[tuple[int, ...]], kept: list[list[int]], wanted: int, by_network: bool
) -> list[list[int]]:
    """Add decoded sequences to ``kept`` that are neither known nor kept, up to ``wanted`` (Method 7).

    by_network: compare up to operand order (False: as released, where a swapped copy counts as new).
    """

    def key(tokens: Sequence[int]) -> tuple[int, ...]:
        if not by_network:
            return tuple(tokens)
        return tuple(to_tokens(canonical(from_tokens(list(tokens), len(tokens) // 8))))

    taken = {key(t) for t in known} | {key(t) for t in kept}
    for tokens in decoded:
        if len(kept) >= wanted:
            break
        if key(tokens) not in taken:
            taken.add(key(tokens))
            kept.append([int(t) for t in tokens])
    return kept
