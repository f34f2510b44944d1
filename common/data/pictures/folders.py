"""Folders of class folders, listed by rule.

Layouts: ``{train, val|valid|validation, test}/CLASS/*``, the parts' names in any case, or plain ``CLASS/*``. A divided
folder is tested on ``test`` and validated on ``val``; where it has only one of the two, that one serves for both. Of a
plain folder every fifth picture of a class (number 4, 9, 14, … in the order of the file names) is the test set; it has
no validation set of its own. Parts under other names are no classes.
Hidden files and what archives and editors leave behind (``._*``, ``__MACOSX``, ``.ipynb_checkpoints``) are passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.data.pictures.decoding import SUFFIXES
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
    return sorted(_readable(entry) for entry in folder.iterdir() if entry.is_dir() and not _left_behind(entry.name))


def _readable(path: Path) -> Path:
    """The path itself. Raises UserError for a name whose bytes are no text: no list and no digest could hold it."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        name = os.fsencode(path.name)
        raise UserError(f"{path.parent} holds {name!r}, a name that is not UTF-8; rename it") from None
    return path


def picture_files(folder: Path) -> list[Path]:
    """All pictures below a folder, in sorted order; links to folders are followed. Raises UserError for a link that
    leads nowhere.
    """
    files = []
    for path in sorted(_below(folder, frozenset({folder.resolve()}))):
        if path.suffix.lower() not in SUFFIXES:
            continue
        if path.is_file():
            files.append(_readable(path))
        elif path.is_symlink() and not path.exists():
            raise UserError(f"{path} is a link to a file that is not there; restore the file or remove the link")
    return files


def _below(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """Everything below a folder that is not left behind; a link back to a folder ``above`` is passed over."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if _left_behind(entry.name):
                continue
            if not entry.is_dir():
                yield Path(entry.path)
            elif (real := Path(entry.path).resolve()) not in above:
                yield from _below(Path(entry.path), above | {real})


def _parts(folder: Path) -> dict[str, Path]:
    """The folders train, test, val, … of a divided folder by their names in small letters; empty for a plain one."""
    present = _class_folders(folder)
    found = {entry.name.lower(): entry for entry in present if entry.name.lower() in SPLITS}
    found |= {entry.name: entry for entry in present if entry.name in SPLITS}
    if "train" in found or (found and len(found) == len(present)):
        return found
    return {}


def divided(folder: Path) -> bool:
    """Whether a folder is divided into parts."""
    return bool(_parts(folder))


def list_base(folder: Path, split: str) -> Path:
    """The folder that holds a split's class folders. Raises UserError where a divided folder has none."""
    parts = _parts(folder)
    if not parts:
        return folder
    if split not in FOLDERS:
        if "train" not in parts:
            raise UserError(f"{folder} has a {next(iter(parts))} folder but no train folder; add one")
        return parts["train"]
    present = [parts[name] for name in FOLDERS[split] if name in parts]
    if not present:
        raise UserError(
            f"{folder} has a train folder but none of {', '.join(FOLDERS[split])}; add one, or give {parts['train']}: "
            f"of a folder without parts every {TEST_EVERY}th picture of a class is for testing"
        )
    known = {entry.name for entry in _class_folders(parts.get("train", present[0]))}
    labelled = [part for part in present if known & {entry.name for entry in _class_folders(part)}]
    return (labelled or present)[0]  # ImageNet's and Tiny-ImageNet's test pictures come without classes


def _check_plain(folder: Path, classes: list[Path]) -> None:
    """Raises UserError where what should be classes are parts of a set under other names."""
    if not 1 < len(classes) <= len(SPLITS):
        return
    inside = [{entry.name for entry in _class_folders(entry)} for entry in classes]
    if all(len(names) > 1 for names in inside) and set.intersection(*inside):
        raise UserError(
            f"{folder} holds {', '.join(entry.name for entry in classes[:3])} with class folders in each; call the "
            f"parts of a set train, val and test, or give one of them"
        )


def list_pictures(folder: Path, split: str) -> PictureList:
    """The pictures of ``train``, ``val`` or ``test`` in a folder, classes and files in sorted order. Raises UserError.

    ``all``: the ``train`` folder where there is one, else every picture of a plain folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of class folders")
    base, train = list_base(folder, split), _parts(folder).get("train", folder / "train")
    classes = _class_folders(base)
    if base == folder:
        _check_plain(folder, classes)
    known = [entry.name for entry in (_class_folders(train) if train.is_dir() else classes)]
    unknown = sorted({entry.name for entry in classes} - set(known))
    if unknown:
        raise UserError(f"{base / unknown[0]} is a class that {train} lacks; both need the same classes")
    labels = {name: label for label, name in enumerate(known)}
    samples: list[tuple[str, int]] = []
    for entry in classes:
        files = picture_files(entry)
        if not files:
            raise UserError(f"class folder {entry} holds no picture ({', '.join(sorted(SUFFIXES))}); fill or remove it")
        if base == folder and split != "all":
            tested = split != "train"
            if tested and len(files) < TEST_EVERY:
                raise UserError(
                    f"class folder {entry} holds {len(files)} of at least {TEST_EVERY} pictures: of a folder without "
                    f"parts every {TEST_EVERY}th of a class is for testing; add some, or make a train and a test folder"
                )
            files = [f for i, f in enumerate(files) if (i % TEST_EVERY == TEST_EVERY - 1) == tested]
        samples += [(str(f.relative_to(base)), labels[entry.name]) for f in files]
    if not samples:
        raise UserError(
            f"{base} holds no class folders with pictures ({split}); expected CLASS/NAME.png or .jpg below it, of a "
            f"folder without parts at least {TEST_EVERY} of a class"
        )
    return PictureList(base, tuple(samples), tuple(labels))
