"""Digests of files, of folders of files, and of what a container holds.

A digest is computed when the file is new or has changed since it was last hashed: size, modification time, change time
(which no program can set back), inode and device are compared with a small cache. The cache stores digests, never
verdicts, so a changed pin is always compared anew; a file younger than two seconds is not cached, because a second
write within the clock's resolution would leave the same times behind.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.run.files import held

CACHE_NAME = ".verified.json"
RACY_SECONDS = 2.0
LARGE = 2**30  # bytes of a set that one process of a machine hashes while the others wait for its digest


def hash_file(path: Path, algorithm: str) -> str:
    """The hex digest of a file; ``git_blob`` is git's object id (SHA-1 of ``blob <length>\\0`` and the content)."""
    if algorithm == "git_blob":
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    else:
        digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _identity(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]


def _cache_files(root: Path | None) -> list[Path]:
    """Where digests are kept: under the data root, else (not in the user's folders) in their cache folder."""
    files = [] if root is None else [root / CACHE_NAME]
    with contextlib.suppress(RuntimeError):  # no home folder is known
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        files.append(Path(base) / "nas-replication" / CACHE_NAME)
    return files


def _read_cache(root: Path | None) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for path in _cache_files(root):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # absent or damaged: files are hashed again
        if isinstance(content, dict):
            entries = {**content, **entries}
    return entries


def _write_cache(root: Path | None, key: str, entry: dict[str, Any]) -> bool:
    """Keep an entry beside those of others; False where no folder can be written."""
    for path in _cache_files(root):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with locked(path.with_name(path.name + ".lock")):
                _add_to_cache(path, key, entry)
            return True
        except OSError:
            continue  # a read-only data root: the user's cache folder is tried next, then no cache
    return False


def _add_to_cache(path: Path, key: str, entry: dict[str, Any]) -> None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = {}
    if not isinstance(content, dict):
        content = {}
    content[key] = entry
    part = ""
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as handle:
            part = handle.name
            json.dump(content, handle, sort_keys=True)
        os.chmod(part, 0o644)
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True) if part else None


@contextlib.contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold a lock file of this machine against other processes; without a word where the disk knows no locks.

    waiting: what process 0 of a job says when it has to wait. Raises OSError where the file cannot be made.
    """

    def busy(holder: str) -> None:
        if waiting and os.environ.get("RANK", "0") == "0":
            print(waiting, file=sys.stderr, flush=True)

    with held(path, busy, needed=False):
        yield


def cached_hash(path: Path, algorithm: str, root: Path | None = None) -> str:
    """``hash_file``, but only when the file changed on disk since its last hashing."""
    root = root or path.parent
    key = str(path.resolve())
    before = _identity(path)
    entry = _read_cache(root).get(key)
    if isinstance(entry, dict) and entry.get("identity") == before and isinstance(entry.get(algorithm), str):
        return entry[algorithm]
    digest = hash_file(path, algorithm)
    settled = time.time() - max(before[1], before[2]) / 1e9 > RACY_SECONDS
    if settled and _identity(path) == before:
        known = entry if isinstance(entry, dict) and entry.get("identity") == before else {}
        _write_cache(root, key, {**known, "identity": before, algorithm: digest})
    return digest


def cached_tree_hash(
    folder: Path, files: list[Path], compute: Callable[[int], str], root: Path | None, part: str = ""
) -> str:
    """A digest over many files, computed only when one was added, removed or changed on disk.

    compute: called with the bytes of all files; of a large set (LARGE) in one process of the machine, while others that
    want the same digest wait for it. root: the data root under which the digest is kept; None: in the user's cache
    folder. part: tells apart digests over different parts of the same files. Raises UserError when a file is gone.
    """
    with contextlib.suppress(OSError):  # a network disk has another number on every machine of a cluster
        part = f"{part}#{folder.stat().st_dev}"
    key = f"{folder.resolve()}/{part}"

    def identity() -> tuple[str, int, int]:
        known, newest, total = hashlib.sha256(), 0, 0
        for path in files:
            try:
                values = _identity(path)
            except OSError as error:
                raise UserError(f"{path} cannot be read: {error.strerror}") from None
            known.update(f"{path}\0{values}\n".encode(errors="surrogateescape"))
            newest, total = max(newest, values[1], values[2]), total + values[0]
        return known.hexdigest(), newest, total

    before, newest, total = identity()

    def kept() -> str:
        entry = _read_cache(root).get(key)
        if isinstance(entry, dict) and entry.get("identity") == before and isinstance(entry.get("tree"), str):
            return entry["tree"]
        return ""

    if found := kept():
        return found
    with _one_at_a_time(root, key, folder) if total >= LARGE else contextlib.nullcontext():
        if found := kept():  # another process has computed it meanwhile
            return found
        digest = compute(total)
        if time.time() - newest / 1e9 > RACY_SECONDS and identity()[0] == before:
            written = _write_cache(root, key, {"identity": before, "tree": digest})
            if not written and total >= LARGE:
                print(f"note: no folder to keep the digest of {folder} in, so that it will be computed again; let "
                      f"XDG_CACHE_HOME name one that can be written", file=sys.stderr)  # fmt: skip
    return digest


@contextlib.contextmanager
def _one_at_a_time(root: Path | None, key: str, folder: Path) -> Iterator[None]:
    """While one process of this machine computes the digest of ``key`` the others wait, where a lock can be kept."""
    with contextlib.ExitStack() as stack:
        for path in _cache_files(root):
            lock = path.with_name(
                f".hashing-{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:16]}.lock"
            )
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(lock, f"{folder}: another process is hashing it; waiting for the digest"))
                break
        yield


def content_sha256(path: Path) -> str:
    """SHA-256 of a .gz file's unpacked bytes, or of a .npz file's names, types, shapes and values by name.

    It is the same where another Python or zlib packed them into other bytes.

    An empty string for other files and for containers that cannot be read whole.
    """
    digest = hashlib.sha256()
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as unpacked:
                while block := unpacked.read(1 << 20):
                    digest.update(block)
        elif path.suffix == ".npz" and zipfile.is_zipfile(path):
            with np.load(path, allow_pickle=False) as arrays:
                for name in sorted(arrays.files):
                    array = np.ascontiguousarray(arrays[name])
                    digest.update(f"{name} {array.dtype.str} {list(array.shape)}\n".encode())
                    digest.update(array.tobytes())
        else:
            return ""
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        RuntimeError,
        MemoryError,
        zlib.error,
        struct.error,
        zipfile.BadZipFile,
    ):
        return ""
    return digest.hexdigest()
