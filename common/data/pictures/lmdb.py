"""Pictures in an LMDB file: the encoded bytes as they were, with label and name, each record under a checksum.

Record ``00000000``, ``00000001``, …: CRC-32 of what follows, label, length of the name, name, encoded picture.
Record ``__meta__``: JSON with schema, number of pictures, class names, pictures per class, total bytes, and the
SHA-256 of record ``__index__``, which holds all labels and record lengths, so that labels are known without reading
a picture.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from common.errors import UserError

SCHEMA = 1
_HEAD = struct.Struct("<IiH")
_META, _INDEX = b"__meta__", b"__index__"
WRITE_EVERY = 1000


def _key(position: int) -> bytes:
    return f"{position:08d}".encode()


def _pack(label: int, name: str, content: bytes) -> bytes:
    name_bytes = name.encode("utf-8")
    body = struct.pack("<iH", label, len(name_bytes)) + name_bytes + content
    return struct.pack("<I", zlib.crc32(body)) + body


def write_lmdb(
    path: Path,
    pictures: Iterable[tuple[str, int, bytes]],
    classes: tuple[str, ...],
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Write (name, label, encoded bytes) records to a new LMDB folder and return its meta entry.

    Written under a temporary name and moved into place when complete. Raises UserError when the target exists, a label
    has no class, or the disk is full; nothing is left behind then.
    """
    if path.exists():
        raise UserError(f"{path} exists already; remove it to write it anew")
    part = path.with_name(path.name + f".part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        meta = _write(part, pictures, classes, progress)
        os.replace(part, path)
        return meta
    except (OSError, lmdb.Error) as error:
        raise UserError(f"cannot write {path}: {' '.join(str(error).split())}; free space and run it again") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(
    folder: Path,
    pictures: Iterable[tuple[str, int, bytes]],
    classes: tuple[str, ...],
    progress: Callable[[int], None] | None,
) -> dict[str, Any]:
    size = 1 << 28
    # Nobody else knows the folder; a lock file would be mapped, and on a full disk the process would end by SIGBUS.
    environment = lmdb.open(str(folder), map_size=size, subdir=True, lock=False, writemap=False)
    labels, lengths, pending = [], [], []

    def flush(records: list[tuple[bytes, bytes]]) -> None:
        nonlocal size
        while True:
            try:
                with environment.begin(write=True) as transaction:
                    for key, value in records:
                        transaction.put(key, value)
                return
            except lmdb.MapFullError:
                size *= 2
                environment.set_mapsize(size)

    try:
        for position, (name, label, content) in enumerate(pictures):
            if not 0 <= label < len(classes):
                raise UserError(f"picture {name} has label {label}, but there are {len(classes)} classes")
            record = _pack(label, name, content)
            pending.append((_key(position), record))
            labels.append(label)
            lengths.append(len(record))
            if len(pending) == WRITE_EVERY:
                flush(pending)
                pending = []
                if progress:
                    progress(position + 1)
        if not labels:
            raise UserError("no pictures to write")
        index = np.stack([np.asarray(labels, "<i8"), np.asarray(lengths, "<i8")]).tobytes()
        meta = {
            "schema": SCHEMA,
            "count": len(labels),
            "classes": list(classes),
            "per_class": np.bincount(labels, minlength=len(classes)).tolist(),
            "bytes": int(sum(lengths)),
            "index_sha256": hashlib.sha256(index).hexdigest(),
        }
        flush([*pending, (_INDEX, index), (_META, json.dumps(meta, sort_keys=True).encode())])
        if progress:
            progress(len(labels))
        environment.sync(True)
        return meta
    finally:
        environment.close()


_OPEN: dict[Path, tuple[int, lmdb.Environment]] = {}  # LMDB allows one handle per file and process


def _close_all() -> None:
    """A forked process must not inherit an open LMDB; the parent opens its own again when it reads next."""
    while _OPEN:
        _OPEN.popitem()[1][1].close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_close_all)


def _environment(path: Path) -> lmdb.Environment:
    """The process's one read handle of an LMDB, opened anew when the file was replaced. Raises UserError."""
    file = path / "data.mdb" if path.is_dir() else path
    if not file.exists():
        raise UserError(f"{file} is missing; write it with: python -m reproductions data prepare imagenet --lmdb")
    key, inode = path.resolve(), file.stat().st_ino
    if key in _OPEN and _OPEN[key][0] != inode:
        _OPEN.pop(key)[1].close()
    if key not in _OPEN:
        try:
            environment = lmdb.open(
                str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False, meminit=False
            )
        except lmdb.Error as error:
            raise UserError(f"{path} is no readable LMDB: {' '.join(str(error).split())}") from None
        # of a file that is cut short the mapped pages behind its end end the process by a signal
        pages, held = environment.info()["last_pgno"] + 1, file.stat().st_size
        if pages * environment.stat()["psize"] > held:
            environment.close()
            raise UserError(f"{file} is cut short: it has {held} bytes, its pages need more; write the LMDB anew")
        _OPEN[key] = (inode, environment)
    return _OPEN[key][1]


class LmdbStore:
    """Read access to such a file. Every process opens it for itself, so that loader workers never share a handle."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.meta = json.loads(self._get(_META, "its meta entry").decode())
            index = self._get(_INDEX, "its index")
            if self.meta["schema"] != SCHEMA:
                raise UserError(f"{path} has schema {self.meta['schema']}, this version reads {SCHEMA}; write it anew")
            if hashlib.sha256(index).hexdigest() != self.meta["index_sha256"]:
                raise UserError(f"{path}: its index is damaged; write the LMDB anew")
            self.labels, self.lengths = np.frombuffer(index, "<i8").reshape(2, self.meta["count"])
            self.classes = tuple(self.meta["classes"])
            per_class = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise UserError(f"{path}: its meta entry is damaged; write the LMDB anew") from None
        if per_class != self.meta["per_class"]:
            raise UserError(f"{path}: labels and counts per class disagree; write the LMDB anew")

    def __len__(self) -> int:
        return len(self.labels)

    def _get(self, key: bytes, what: str) -> bytes:
        try:
            with _environment(self.path).begin() as transaction:
                value = transaction.get(key)
        except lmdb.Error as error:
            raise UserError(f"{self.path}: {what} cannot be read: {' '.join(str(error).split())}") from None
        if value is None:
            raise UserError(f"{self.path}: {what} is missing; write the LMDB anew")
        return value

    def record(self, position: int) -> tuple[str, int, bytes]:
        """(name, label, encoded bytes) of one picture. Raises UserError when the record is damaged."""
        value = self._get(_key(position), f"record {position}")
        damaged = f"{self.path}: record {position} is damaged (its checksum does not match); write the LMDB anew"
        if len(value) < _HEAD.size or len(value) != self.lengths[position]:
            raise UserError(damaged)
        crc, label, length = _HEAD.unpack_from(value)
        if zlib.crc32(value[4:]) != crc or label != self.labels[position]:
            raise UserError(damaged)
        name = value[_HEAD.size : _HEAD.size + length].decode("utf-8", errors="replace")
        return name, label, value[_HEAD.size + length :]

    def read(self, position: int) -> bytes:
        """Encoded bytes of one picture."""
        return self.record(position)[2]

    def name(self, position: int) -> str:
        """How messages name a picture."""
        return f"{self.path}#{position}"

    def item(self, position: int) -> tuple[str, bytes]:
        """The picture's name in the folder it was packed from, and its encoded bytes."""
        name, _, content = self.record(position)
        return name, content

    def files(self) -> list[Path]:
        """The file on disk."""
        return [self.path / "data.mdb" if self.path.is_dir() else self.path]

    def verify(self) -> None:
        """Check every record. Raises UserError at the first damaged one."""
        for position in range(len(self)):
            self.record(position)
