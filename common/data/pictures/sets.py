"""Sets of picture files: class folders or LMDB files, identified by what the files hold.

The identity of a set is the SHA-256 over all names, sizes and bytes, the same for class folders and for an LMDB packed
from them. It is computed when a set is new or one of its files has changed on disk (``cached_tree_hash``).
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from common.data import absent, digests
from common.data.digests import cached_tree_hash
from common.data.names import IMAGE_SETS, PICTURE_SETS, canonical, parse
from common.data.pictures.decoding import decode, resize_square
from common.data.pictures.folders import FOLDERS, TEST_EVERY, PictureList, divided, list_base, list_pictures, split_of
from common.data.pictures.lmdb import LmdbStore
from common.data.pins import allow_unpinned, data_root, fetch_command, pins_of
from common.errors import UserError
from common.run.device import available
from common.words import hint

IMAGENET_COUNTS = {"train": (1000, 1_281_167), "test": (1000, 50_000), "val": (1000, 50_000)}
READERS, READ_AHEAD = 8, 64
SAID_EVERY_S = 30.0  # a word about how far the hashing of a large set is
USUAL_BYTES_PER_S = 2e8  # of a good disk, for a first guess


class Store(Protocol):
    """Where encoded pictures lie."""

    def read(self, position: int) -> bytes: ...

    def name(self, position: int) -> str: ...

    def item(self, position: int) -> tuple[str, bytes]:
        """Name inside the set, and content."""
        ...

    def files(self) -> list[Path]:
        """The files on disk that hold the set."""
        ...


@dataclass(frozen=True)
class FolderStore:
    """Picture files below a folder."""

    pictures: PictureList

    def read(self, position: int) -> bytes:
        path = self.pictures.root / self.pictures.samples[position][0]
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None

    def name(self, position: int) -> str:
        return str(self.pictures.root / self.pictures.samples[position][0])

    def item(self, position: int) -> tuple[str, bytes]:
        return Path(self.pictures.samples[position][0]).as_posix(), self.read(position)

    def files(self) -> list[Path]:
        return [self.pictures.root / relative for relative, _ in self.pictures.samples]


@dataclass(frozen=True)
class Pictures:
    """A set of encoded pictures. labels: int64 [N]; positions: where each stands in the store (int64 [N])."""

    store: Store
    labels: np.ndarray
    positions: np.ndarray
    classes: tuple[str, ...]
    name: str
    pinned: bool = False
    pins: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: np.ndarray | list[int] | range) -> Pictures:
        """The pictures at the given indices, in that order."""
        index = np.asarray(indices, dtype=np.int64)
        return replace(self, labels=self.labels[index], positions=self.positions[index])

    def picture(self, index: int) -> Image.Image:
        """One picture, decoded to RGB. Raises UserError when it is damaged."""
        position = int(self.positions[index])
        return decode(self.store.read(position), self.store.name(position))


def blank_pictures(name: str, pictures: int, classes: int) -> Pictures:
    """A set as far as its numbers go, of which no picture can be read: enough to split it, and to count batches. The
    classes take turns.
    """
    numbers = np.arange(pictures)
    return Pictures(None, numbers % classes, numbers, tuple(map(str, range(classes))), name, True)  # type: ignore[arg-type]


def open_pictures(name: str, split: str, options: Any = None, hashed: bool = True) -> Pictures:
    """Open ``train``, ``val`` or ``test`` of ``imagenet`` or ``tiny-imagenet-20`` under the data root, or of a path:
    class folders, or ``FILE.lmdb``.

    A folder that holds ``train.lmdb`` is read from that and from ``test.lmdb`` or ``val.lmdb``. ImageNet must have its
    official numbers of classes and pictures, the Tiny-ImageNet subset its pinned content (``allow_unpinned`` lets
    others through). ``hashed=False`` leaves the content unread and the pins empty: for looking at a set, not for runs.
    Raises UserError.
    """
    split, name = split_of(split), canonical(name)
    root = data_root(options)
    path = root / name if name in PICTURE_SETS else Path(name).expanduser()
    if name in PICTURE_SETS and absent.stood_in_for(name, options):
        count, classes = absent.counts(name, split)
        return replace(blank_pictures(name, count, classes), store=absent.BlankStore(name))
    if not path.exists():
        raise UserError(_missing(name, path, root))
    opened, part = _opened(path, split)
    if name not in PICTURE_SETS and path.name.lower() in (*IMAGE_SETS, *PICTURE_SETS):
        opened = replace(opened, name=f"folder {path.name}")  # it is not that set, whatever it holds
    if name == "imagenet":
        opened = _counted(opened, path, split, options)
    if not hashed or getattr(options, "plan", False):
        return opened
    if len(opened.classes) < 2:
        raise UserError(f"{part} holds the one class {opened.classes[0]!r}: nothing to tell apart; add another class")
    where = root if name in PICTURE_SETS else None
    digest = cached_tree_hash(part, opened.store.files(), lambda total: _hashed(opened, total), where, split)
    opened = replace(opened, pins={f"{path.name}/{part.name if part != path else split}": f"sha256:{digest}"})
    return _tree_pinned(opened, part, digest, options) if name == "tiny-imagenet-20" else opened


def has_validation(name: str) -> bool:
    """Whether a set has a validation part of its own beside its test part: then what chooses (an epoch, a setting)
    looks at ``val`` and what reports at ``test``. The published sets have none, nor have plain folders.
    """
    path = Path(parse(name)[0]).expanduser()
    if path.suffix == ".lmdb" and path.stem in ("train", *FOLDERS["test"]):
        path = path.parent
    if canonical(name) in PICTURE_SETS or not path.is_dir():
        return False
    parts = [_part(path, split) for split in ("val", "test")]
    return None not in parts and parts[0] != parts[1]


def _part(path: Path, split: str) -> Path | None:
    """Where a divided folder keeps a split; None when it is not divided or has no such part."""
    try:
        packed = _packed(path, split)
        found = packed or (list_base(path, split) if divided(path) else None)
    except UserError:
        return None
    return found


def _missing(name: str, path: Path, root: Path) -> str:
    if name == "imagenet":
        return (
            f"{path} is missing; put the official archives there and run: python -m reproductions data prepare imagenet"
        )
    if name == "tiny-imagenet-20":
        return f"{path} is missing; get it with: {fetch_command(name, root)}"
    if name in IMAGE_SETS:
        return (
            f"{name} holds small images, and this network takes pictures of ImageNet's size: use imagenet, a folder "
            f"of class folders or an .lmdb"
        )
    return f"{path} is missing{hint(name, (*IMAGE_SETS, *PICTURE_SETS))}; give a folder of class folders or an .lmdb"


def _opened(path: Path, split: str) -> tuple[Pictures, Path]:
    """The pictures of a split, and the folder or file that holds them."""
    packed = _packed(path, split)
    name = path.name
    if packed is None:
        listed = list_pictures(path, split)
        labels = np.array([label for _, label in listed.samples], dtype=np.int64)
        return Pictures(FolderStore(listed), labels, np.arange(len(listed)), listed.classes, name), listed.root
    store = LmdbStore(packed)
    opened = Pictures(store, store.labels, np.arange(len(store)), store.classes, name)
    if packed == path and path.stem not in ("train", *FOLDERS["test"]):  # one file for all, cut like a plain folder
        order = np.argsort(opened.labels, kind="stable")
        counts = np.bincount(opened.labels, minlength=len(opened.classes))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        tested = np.empty(len(order), dtype=bool)
        tested[order] = rank % TEST_EVERY == TEST_EVERY - 1
        opened = opened.subset(np.flatnonzero(tested == (split != "train")))
        if split != "train" and (counts < TEST_EVERY).any():
            few = opened.classes[int(np.argmax(counts < TEST_EVERY))]
            raise UserError(f"{path} holds no picture of {few!r} for {split}; a class needs {TEST_EVERY} to have one")
    elif packed.with_name("train.lmdb").exists() and split != "train":
        trained = LmdbStore(packed.with_name("train.lmdb")).classes
        if trained != opened.classes:
            raise UserError(f"{packed} and train.lmdb beside it have other classes; write both from one folder")
    return opened, packed


def _packed(path: Path, split: str) -> Path | None:
    """The LMDB that holds a split, or None for class folders. Raises UserError where only the other part is there."""
    wanted = FOLDERS.get(split, ("train",))
    if path.suffix == ".lmdb":
        kind = "train" if path.stem == "train" else "test" if path.stem in FOLDERS["test"] else ""
        if not kind or (kind == "train") == (split == "train"):
            return path
        beside = [path.with_name(f"{word}.lmdb") for word in wanted]
        found = next((file for file in beside if file.exists()), None)
        if found is None:
            raise UserError(f"{path} is no {split} set, and {beside[0].name} is missing beside it; write it")
        return found
    found = next((path / f"{word}.lmdb" for word in wanted if (path / f"{word}.lmdb").exists()), None)
    if found is None and split != "train" and (path / "train.lmdb").exists() and not divided(path):
        raise UserError(f"{path} has train.lmdb but none of {', '.join(f'{word}.lmdb' for word in wanted)}; write one")
    lone = next((word for word in FOLDERS["test"] if (path / f"{word}.lmdb").exists()), "")
    if found is None and split == "train" and lone and not divided(path):
        raise UserError(f"{path} has {lone}.lmdb but no train.lmdb; write it")
    return found


def _counted(opened: Pictures, path: Path, split: str, options: Any) -> Pictures:
    """ImageNet, when it has its official numbers. Raises UserError."""
    found, expected = (len(opened.classes), len(opened)), IMAGENET_COUNTS[split]
    if found != expected and not allow_unpinned(options):
        raise UserError(
            f"{path} ({split}) has {found[0]} classes and {found[1]} pictures, ImageNet has {expected[0]} and "
            f"{expected[1]}; complete it or pass --allow-unpinned"
        )
    return replace(opened, pinned=found == expected)


def _tree_pinned(opened: Pictures, part: Path, digest: str, options: Any) -> Pictures:
    """A set whose content is pinned. Raises UserError for any other content."""
    expected = pins_of("tiny-imagenet-20")["tree"].get(part.name)
    if digest != expected and not allow_unpinned(options):
        raise UserError(
            f"{part} is not the pinned set: sha256 of its files is {digest}, expected {expected}; remove it and "
            f"get it with: {fetch_command('tiny-imagenet-20', data_root(options))} (or pass --allow-unpinned: results "
            f"are then marked as made from unpinned data)"
        )
    return replace(opened, pinned=digest == expected)


# --- reading whole sets --------------------------------------------------------------------------------------------


def _items(pictures: Pictures) -> Iterator[tuple[str, bytes]]:
    """(name, content) of all pictures in order; several are read at a time."""
    positions = pictures.positions.tolist()
    with ThreadPoolExecutor(READERS) as readers:
        todo = iter(positions)
        under_way = [readers.submit(pictures.store.item, position) for position in islice(todo, READ_AHEAD)]
        for _ in positions:
            item = under_way.pop(0).result()
            under_way += [readers.submit(pictures.store.item, following) for following in islice(todo, 1)]
            yield item


def content_digest(pictures: Pictures, progress: Callable[[int], None] | None = None) -> str:
    """SHA-256 over the names, sizes and bytes of all pictures, in order. progress: told the bytes of every picture."""
    digest = hashlib.sha256()
    for name, content in _items(pictures):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
        if progress is not None:
            progress(len(content))
    return digest.hexdigest()


def _hashed(pictures: Pictures, total: int) -> str:
    """``content_digest``; of a set of ``total`` bytes that takes a while it says so, and how far it is."""
    if total < digests.LARGE:
        return content_digest(pictures)
    started = said = time.monotonic()
    done = 0

    def progress(size: int) -> None:
        nonlocal done, said
        done, now = done + size, time.monotonic()
        if now - said >= SAID_EVERY_S:
            said, left = now, max(total - done, 0) * (now - started) / max(done, 1)
            print(
                f"{pictures.name}: {done / total:.0%} hashed, about {_minutes(left)} left", file=sys.stderr, flush=True
            )

    guess = _minutes(total / USUAL_BYTES_PER_S)
    print(
        f"{pictures.name}: hashing {len(pictures):,} pictures ({total / 2**30:.1f} GiB, about {guess} on a good disk), "
        f"once while they do not change", file=sys.stderr, flush=True,
    )  # fmt: skip
    return content_digest(pictures, progress)


def _minutes(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} minute{'s' * (minutes > 1)}"


def read_all(pictures: Pictures, size: int = 0) -> torch.Tensor:
    """All pictures in memory: uint8 [N, 3, H, W].

    ``size`` 0 keeps the pictures' own size, which must then be the same for all, and square. Raises UserError.
    """
    arrays: list[np.ndarray] = []
    for index, (_, content) in enumerate(_items(pictures)):
        where = pictures.store.name(int(pictures.positions[index]))
        picture = decode(content, where)
        if not arrays:
            _check_room(pictures, size or max(picture.size))
        array = np.asarray(resize_square(picture, size) if size else picture)
        height, width = arrays[0].shape[:2] if arrays else (array.shape[0], array.shape[0])
        if array.shape[:2] != (height, width):
            others = f"others are {width}x{height}" if arrays else "which is not square"
            raise UserError(
                f"{where} is {array.shape[1]}x{array.shape[0]}, {others}; append @SIZE to the set's name to resize all "
                f"(for example {pictures.name.removeprefix('folder ')}@32)"
            )
        arrays.append(array)
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def _check_room(pictures: Pictures, side: int) -> None:
    """Raises UserError where so many pictures of that side are more than this machine's free memory holds."""
    wanted, free = len(pictures) * 3.0 * side**2, available()
    if wanted > free:
        raise UserError(
            f"{pictures.name}: {len(pictures)} pictures of {side} x {side} pixels take {wanted / 2**30:.1f} GiB of "
            f"memory, {free / 2**30:.1f} are free; append a smaller @SIZE to the set's name"
        )
