"""Folders of class folders, listed by rule.

Layouts: ``{train, val|valid|validation, test}/CLASS/*`` or plain ``CLASS/*``. A divided folder is tested on ``test``
and validated on ``val``; where it has only one of the two, that one serves for both. Of a plain folder every fifth
picture of a class (number 4, 9, 14, … in the order of the file names) is the test set; it has no validation set of its
own.
Hidden files and what archives and editors leave behind (``._*``, ``__MACOSX``, ``.ipynb_checkpoints``) are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.data.decoding import SUFFIXES
from common.errors import UserError

SPLITS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
VALIDATION_FOLDERS = ("val", "valid", "validation")
FOLDERS = {"test": ("test", *VALIDATION_FOLDERS), "val": (*VALIDATION_FOLDERS, "test")}
TEST_EVERY = 5


@dataclass(frozen=True)
class PictureList:
    """The pictures of one split: root folder, (path relative to it, label) pairs in order, class names by label."""

    root: Path
    samples: tuple[tuple[str, int], ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.samples)


def split_of(split: str) -> str:
    """``train``, ``test`` or ``val`` (``valid`` and ``validation`` mean the latter). Raises UserError."""
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}; use train, val or test")
    return SPLITS[split]


def _left_behind(name: str) -> bool:
    """Hidden files and folders, and the folder that a Mac's archives bring along."""
    return name.startswith(".") or name == "__MACOSX"


def _class_folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _left_behind(entry.name))


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(map(_left_behind, path.relative_to(folder).parts))
        and path.is_file()
    )


def list_base(folder: Path, split: str) -> Path:
    """The folder that holds a split's class folders. Raises UserError where a divided folder has none."""
    if not (folder / "train").is_dir():
        return folder
    if split not in FOLDERS:
        return folder / "train"
    known = {entry.name for entry in _class_folders(folder / "train")}
    present = [folder / name for name in FOLDERS[split] if (folder / name).is_dir()]
    if not present:
        raise UserError(f"{folder} has a train folder but none of {', '.join(FOLDERS[split])}; add one")
    labelled = [part for part in present if known & {entry.name for entry in _class_folders(part)}]
    return (labelled or present)[0]  # ImageNet's and Tiny-ImageNet's test pictures come without classes


def list_pictures(folder: Path, split: str) -> PictureList:
    """The pictures of ``train``, ``val`` or ``test`` in a folder, classes and files in sorted order. Raises UserError.

    ``all``: the ``train`` folder where there is one, else every picture of a plain folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of class folders")
    base, train = list_base(folder, split), folder / "train"
    classes = _class_folders(base)
    known = [entry.name for entry in (_class_folders(train) if train.is_dir() else classes)]
    unknown = sorted({entry.name for entry in classes} - set(known))
    if unknown:
        raise UserError(f"{base / unknown[0]} is a class that {train} lacks; both need the same classes")
    labels = {name: label for label, name in enumerate(known)}
    samples: list[tuple[str, int]] = []
    for entry in classes:
        files = _files(entry)
        if not files:
            raise UserError(f"class folder {entry} holds no picture ({', '.join(sorted(SUFFIXES))}); fill or remove it")
        if base == folder and split != "all":
            tested = split != "train"
            files = [f for i, f in enumerate(files) if (i % TEST_EVERY == TEST_EVERY - 1) == tested]
        samples += [(str(f.relative_to(base)), labels[entry.name]) for f in files]
    if not samples:
        raise UserError(
            f"{base} holds no class folders with pictures ({split}); expected CLASS/NAME.png or .jpg below it, of a "
            f"folder without parts at least {TEST_EVERY} of a class"
        )
    return PictureList(base, tuple(samples), tuple(labels))
