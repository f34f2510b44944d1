"""Folders of class folders: listing them by rule, and reading small pictures into memory.

Layouts: ``{train, val|valid|validation|test}/CLASS/*`` or plain ``CLASS/*``; in the latter every fifth picture of a
class (number 4, 9, 14, … in the order of the file names) is the test set.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from common.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm"}
TEST_FOLDERS = ("val", "valid", "validation", "test")
TEST_EVERY = 5


@dataclass(frozen=True)
class PictureList:
    """The pictures of one split: root folder, (path relative to it, label) pairs in order, class names by label."""

    root: Path
    samples: tuple[tuple[str, int], ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.samples)


def _class_folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def list_pictures(folder: Path, split: str) -> PictureList:
    """The pictures of ``train`` or ``test`` in a folder, classes and files in sorted order. Raises UserError.

    ``all``: the ``train`` folder where there is one, else every picture of a plain folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of class folders")
    divided = (folder / "train").is_dir()
    if divided and split == "test":
        present = [folder / name for name in TEST_FOLDERS if (folder / name).is_dir()]
        if not present:
            raise UserError(f"{folder} has a train folder but none of {', '.join(TEST_FOLDERS)}; add one")
        base = present[0]
    else:
        base = folder / "train" if divided else folder
    classes = _class_folders(base)
    if divided and split == "test":
        known = [entry.name for entry in _class_folders(folder / "train")]
        unknown = sorted({entry.name for entry in classes} - set(known))
        if unknown:
            raise UserError(f"{base / unknown[0]} is a class that {folder / 'train'} lacks; both need the same classes")
        labels = {name: label for label, name in enumerate(known)}
    else:
        labels = {entry.name: label for label, entry in enumerate(classes)}
    samples: list[tuple[str, int]] = []
    for entry in classes:
        files = _files(entry)
        if not files:
            raise UserError(f"class folder {entry} holds no picture ({', '.join(sorted(SUFFIXES))}); fill or remove it")
        if not divided and split != "all":
            files = [f for i, f in enumerate(files) if (i % TEST_EVERY == TEST_EVERY - 1) == (split == "test")]
        samples += [(str(f.relative_to(base)), labels[entry.name]) for f in files]
    if not samples:
        raise UserError(f"{base} holds no class folders with pictures; expected CLASS/NAME.png or .jpg below it")
    return PictureList(base, tuple(samples), tuple(labels))


def decode(content: bytes, path: Path | str) -> Image.Image:
    """An RGB picture from a file's bytes. Raises UserError when it cannot be decoded."""
    try:
        return Image.open(io.BytesIO(content)).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be decoded: {' '.join(str(error).split())}; replace or remove it") from None


def resize_square(picture: Image.Image, size: int) -> Image.Image:
    """A picture as size x size: block averages where the size divides both sides, else bilinear with antialiasing."""
    if picture.size == (size, size):
        return picture
    divides = picture.width % size == 0 and picture.height % size == 0
    return picture.resize((size, size), Image.Resampling.BOX if divides else Image.Resampling.BILINEAR)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _add(digest: hashlib._Hash, relative: str, content: bytes) -> None:
    digest.update(f"{Path(relative).as_posix()}\0{len(content)}\0".encode())
    digest.update(content)


def tree_digest(pictures: PictureList) -> str:
    """SHA-256 over the names and bytes of all pictures, in order."""
    digest = hashlib.sha256()
    for relative, _ in pictures.samples:
        _add(digest, relative, _read(pictures.root / relative))
    return digest.hexdigest()


def read_pictures(pictures: PictureList, size: int = 0) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...], str]:
    """All pictures in memory: uint8 [N, 3, H, W], int64 [N], class names, and the SHA-256 over names and bytes.

    ``size`` 0 keeps the pictures' own size, which must then be the same for all.
    """
    digest = hashlib.sha256()
    arrays: list[np.ndarray] = []
    for relative, _ in pictures.samples:
        path = pictures.root / relative
        content = _read(path)
        _add(digest, relative, content)
        picture = decode(content, path)
        array = np.asarray(resize_square(picture, size) if size else picture)
        if arrays and array.shape != arrays[0].shape:
            raise UserError(
                f"{path} is {array.shape[1]}x{array.shape[0]}, others are {arrays[0].shape[1]}x{arrays[0].shape[0]}; "
                f"append @SIZE to the folder's name to resize all (for example {pictures.root.name}@32)"
            )
        arrays.append(array)
    pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([label for _, label in pictures.samples], dtype=torch.int64)
    return pixels, labels, pictures.classes, digest.hexdigest()
