"""What the user calls a data set: known names in any case, folders whose names may hold an @, sizes behind it.

No torch here: names are looked at before anything is opened.
"""

from __future__ import annotations

from pathlib import Path

from common.errors import UserError
from common.words import hint

SMALL_SETS = {"digits": 32, "cifar10": 32, "cifar100": 32, "imagenet16-120": 16}
"""Sets of small square images, held in memory, and the side of their images."""
PICTURE_SETS = {"tiny-imagenet-20": 64, "imagenet": 224}
"""Sets of picture files under the data root; of ImageNet the side to which its pictures are cut."""
IMAGE_SETS = (*SMALL_SETS, "tiny-imagenet-20")
TEXTS = ("ptb", "kjv")
LARGEST_SIDE = 9999  # pixels that a folder's pictures can be resized to
CLASSES = {
    "digits": 10,
    "cifar10": 10,
    "cifar100": 100,
    "imagenet16-120": 120,
    "tiny-imagenet-20": 20,
    "imagenet": 1000,
}
"""Classes of the known sets."""


def exists(text: str | Path) -> bool:
    """Whether a text is the path of a file or folder; pasted text may be longer than any path."""
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def canonical(name: str) -> str:
    """A known set's name as this suite writes it, whatever its case (``ImageNet16-120``); other names as they are.

    A file or folder of exactly that name is what it says: ``CIFAR10`` is the folder where there is one.
    """
    plain, at, size = name.rpartition("@") if "@" in name else (name, "", "")
    lower = plain.lower()
    if lower not in SMALL_SETS and lower not in PICTURE_SETS:
        return name
    return name if plain != lower and exists(plain) else lower + at + size


def parse(name: str) -> tuple[str, int]:
    """(set or path, size asked for) of ``NAME@SIZE``; size 0 where none is asked for.

    The size stands behind the last @. A file or folder that is called so is meant whole. Raises UserError for anything
    but a size behind an @ that no path has.
    """
    name = canonical(name)
    plain, at, size = name.rpartition("@")
    if not at or exists(name):
        return name, 0
    if not (size.isdecimal() and size.isascii() and len(size) <= len(str(LARGEST_SIDE)) and int(size) > 0):
        raise UserError(
            f"{name!r} is no file or folder, so the part after @ must be an image size in pixels, such as {plain}@32, "
            f"of at most {LARGEST_SIDE}"
        )
    return plain, int(size)


def in_memory(name: str) -> bool:
    """Whether a set is held in memory as small squares: the small sets, and any folder with a size (``PATH@32``).

    All others are read picture by picture (``open_pictures``).
    """
    plain, size = parse(name)
    return bool(size) or plain in SMALL_SETS


def other_set(own: str, chosen: str) -> bool:
    """Whether two names certainly mean different sets: known ones that are not the same.

    A folder may be a copy of a known set, may have been moved, and is spelt in several ways: there the classes decide.
    """
    names = {canonical(own), canonical(chosen)}
    return len(names) == 2 and names <= {*SMALL_SETS, *PICTURE_SETS, *TEXTS}


def classes_of(dataset: str) -> int:
    """How many classes a known set, or a folder of class folders, has; no picture is read. Raises UserError."""
    name = parse(dataset)[0]
    if name in CLASSES:
        return CLASSES[name]
    if not exists(name):
        raise UserError(
            f"unknown data set {name!r}{hint(name, CLASSES)}; use {', '.join(CLASSES)}, or a folder of class folders"
        )
    from common.data.pictures.sets import open_pictures

    return len(open_pictures(name, "train", hashed=False).classes)


def side_of(dataset: str) -> int:
    """The side of the images of ``FOLDER@SIZE``; 0 for other sets."""
    return parse(dataset)[1]
