"""The names of a network's classes: what its file says, else those of the set it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.data.names import CLASSES, SMALL_SETS, canonical, parse
from common.errors import UserError
from common.spaces.use import file_of
from common.use.settings import OfWeights
from common.weights import published
from common.weights.read import read_metadata


def trained_on(metadata: Mapping[str, Any], file: Path | str) -> str:
    """The set that weights are of, as far as they or the record beside the authors' file say it; else ""."""
    return canonical(str(metadata.get("dataset") or published.known(file).get("dataset", "")))


def file_given(checkpoint: str) -> Path:
    """The file of ``--checkpoint``, which may be the folder of a training; of one that is unfinished the folder itself,
    whose last state is then read. Raises UserError where there is none.
    """
    path = file_of(checkpoint)
    if not path.exists():
        raise UserError(f"--checkpoint {checkpoint}: there is no file {path}; give weights.safetensors of a training")
    return path


def weights_of(settings: OfWeights) -> tuple[Path, str | None]:
    """(file of the weights, the architecture to build it with) of a verb's settings; None where the file says its own.

    The authors' files do not, but the record beside a pinned one does. Raises UserError where no file is given, or it
    is absent.
    """
    if not settings.checkpoint:
        raise UserError("no weights given; add --checkpoint FILE (weights.safetensors of train, or the authors' file)")
    file = file_given(settings.checkpoint)
    says = "architecture" in read_metadata(file)
    return file, settings.arch or (None if says else published.known(file).get("architecture"))


def known_names(dataset: str) -> tuple[str, ...]:
    """The classes of a set that comes with names or numbers of its own; () for others."""
    from common.data.sets import CIFAR10_CLASSES

    name = parse(dataset)[0] if dataset else ""
    if name == "cifar10":
        return CIFAR10_CLASSES
    if name not in SMALL_SETS:
        return ()
    first = 1 if name == "imagenet16-120" else 0
    return tuple(str(number + first) for number in range(CLASSES[name]))


def held_names(metadata: Mapping[str, Any], file: Path | str) -> tuple[str, ...]:
    """The names of a file's classes in the order of its outputs; () where nobody says them."""
    return tuple(map(str, metadata.get("class_names") or ())) or known_names(trained_on(metadata, file))


def class_names(metadata: Mapping[str, Any], file: Path | str, classes: int) -> tuple[str, ...]:
    """As ``held_names``; the numbers from 0 on where the names are unknown or of another number."""
    names = held_names(metadata, file)
    return names if len(names) == classes else tuple(map(str, range(classes)))


def same_classes(metadata: Mapping[str, Any], file: Path | str, held: int, classes: Sequence[str]) -> bool:
    """Whether a classifier of ``held`` outputs tells these classes apart, as far as the file says it."""
    names = held_names(metadata, file)
    return held == len(classes) and (not names or list(names) == list(classes))
