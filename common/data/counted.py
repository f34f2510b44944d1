"""How many classes a set has and how large its images are, as far as names and listings say it. No torch at import."""

from __future__ import annotations

from pathlib import Path

from common.data.names import CLASSES, parse
from common.errors import UserError
from common.words import hint


def classes_of(dataset: str) -> int:
    """How many classes a known set, or a folder of class folders, has; no picture is read. Raises UserError."""
    name = parse(dataset)[0]
    if name in CLASSES:
        return CLASSES[name]
    if not Path(name).expanduser().exists():
        raise UserError(
            f"unknown data set {name!r}{hint(name, CLASSES)}; use {', '.join(CLASSES)}, or a folder of class folders"
        )
    from common.data.pictures.sets import open_pictures

    return len(open_pictures(name, "train", hashed=False).classes)


def side_of(dataset: str) -> int:
    """The side of the images of ``FOLDER@SIZE``; 0 for other sets."""
    return parse(dataset)[1]
