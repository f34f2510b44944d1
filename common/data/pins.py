"""Pinned files: where a data set lies, what its files' hashes must be, and the check on opening.

A file's digest is computed when the file is new or has changed since it was last hashed: size, modification time,
change time (which no program can set back), inode and device are compared with a small cache. The cache stores
digests, never verdicts, so a changed pin is always compared anew; a file younger than two seconds is not cached,
because a second write within the clock's resolution would leave the same times behind.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.cli.errors import UserError
from common.data.contents import content_sha256

ROOT = Path(__file__).resolve().parents[2]
PINS_FILE = Path(__file__).resolve().parent / "pins.yaml"
EMBEDDED = Path(__file__).resolve().parent / "embedded"
EMBEDDED_SHA256 = {
    "digits.npz": "2e542e7562b7595a480c60316646dc89e3bc686a856bf00fe82a0cb4d09cdb06",
    "kjv.txt.xz": "69617f53507d7d151603d71d1f914abe96325612e0dad7af55665c90c0af06b0",
    "nasbench201_splits.npz": "1a982fd3f4887aa71d06e16ca568904bd00ef228c99a807d028408d0bbc2e208",
}
CACHE_NAME = ".verified.json"
PREPARED_SUFFIX = ".origin.json"
RACY_SECONDS = 2.0
LARGE = 2**30  # bytes of a set that one process of a machine hashes while the others wait for its digest


@dataclass(frozen=True)
class Checked:
    """The outcome for one file: its digest as ``algorithm:hex`` and whether a pin says that it must be this."""

    path: Path
    digest: str
    pinned: bool


def data_root(options: Any = None) -> Path:
    """The data root: ``options.data``, else the environment variable NAS_DATA, else ``./data``."""
    chosen = getattr(options, "data", None) or os.environ.get("NAS_DATA") or "data"
    return Path(chosen)


def allow_unpinned(options: Any = None) -> bool:
    return bool(getattr(options, "allow_unpinned", False))


@functools.cache
def _read_pins(path: Path) -> dict[str, dict[str, Any]]:
    try:
        pins = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the data pins {path}: {error.strerror}; restore the file from git") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(pins, dict):
        raise UserError(f"{path}: a mapping from data set to pins is expected")
    return pins


def data_pins(path: Path | None = None) -> dict[str, dict[str, Any]]:
    """All entries of the pins file, by data set."""
    return _read_pins(path or PINS_FILE)


def pins_of(name: str) -> dict[str, Any]:
    """The entry of one data set. Raises UserError for an unknown name."""
    pins = data_pins()
    if name not in pins:
        raise UserError(f"unknown data set {name!r}; known: {', '.join(sorted(pins))}")
    return pins[name]


def fetch_command(name: str, root: Path | None = None) -> str:
    """The command that gets a data set, with ``--data`` where the root is not the one it would take by itself."""
    elsewhere = f" --data {root}" if root is not None and root != data_root() else ""
    return f"python -m reproductions data fetch {name}{elsewhere}"


# --- hashing -------------------------------------------------------------------------------------------------------


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
    import fcntl

    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting and os.environ.get("RANK", "0") == "0":
                print(waiting, file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


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
    with contextlib.ExitStack() as held:
        for path in _cache_files(root):
            lock = path.with_name(
                f".hashing-{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:16]}.lock"
            )
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(lock, f"{folder}: another process is hashing it; waiting for the digest"))
                break
        yield


# --- checking ------------------------------------------------------------------------------------------------------


def expected_digest(pin: dict[str, Any]) -> tuple[str, str]:
    """(algorithm, hex) of a pin, the strongest it gives; ("", "") when it gives none."""
    for algorithm in ("sha256", "git_blob", "md5"):
        if pin.get(algorithm):
            return algorithm, str(pin[algorithm])
    return "", ""


def _prepared_digest(path: Path) -> str:
    """SHA-256 recorded beside a file which ``data prepare`` made here, or an empty string."""
    try:
        record = json.loads(path.with_name(path.name + PREPARED_SUFFIX).read_text(encoding="utf-8"))
        return str(record["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def check_file(path: Path, pin: dict[str, Any], *, root: Path, remedy: str, unpinned_allowed: bool = False) -> Checked:
    """Check a file against its pin.

    Raises UserError when the file is absent, or when its digest is not the pinned one and ``unpinned_allowed`` is off.
    Of a container that the pin gives ``content_sha256`` for, the content alone decides (``common.data.contents``).
    A file made here by ``data prepare`` carries a record of its digest; it must still have it, and counts as unpinned.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; get it with: {remedy}")
    algorithm, expected = expected_digest(pin)
    found = cached_hash(path, algorithm or "sha256", root)
    if expected and found == expected:
        return Checked(path, f"{algorithm}:{found}", True)
    held = pin.get("content_sha256")  # the same content, packed by another Python or zlib
    if held and content_sha256(path) == held:
        return Checked(path, f"content_sha256:{held}", True)
    prepared = _prepared_digest(path)
    if prepared and cached_hash(path, "sha256", root) == prepared:
        return Checked(path, f"sha256:{prepared}", False)
    if unpinned_allowed:
        return Checked(path, f"{algorithm or 'sha256'}:{found}", False)
    if not expected:
        raise UserError(f"{path} has no pin; use --allow-unpinned to read it all the same")
    raise UserError(
        f"{path} is not the pinned file: {algorithm} is {found}, expected {expected}; remove it and get it with: "
        f"{remedy} (or pass --allow-unpinned: results are then marked as made from unpinned data)"
    )


def verified_path(name: str, file: str, options: Any = None) -> Checked:
    """The checked file of a data set under the data root, e.g. ``verified_path("sgnas", "prior_pool.json",
    options)``.
    """
    entry = pins_of(name)
    root = data_root(options)
    pin = entry.get("files", {}).get(file)
    if pin is None:
        raise UserError(f"data set {name} has no file {file!r}")
    folder = root / entry["folder"]
    return check_file(
        folder / file, pin, root=root, remedy=fetch_command(name, root), unpinned_allowed=allow_unpinned(options)
    )


@functools.cache
def embedded_file(name: str) -> bytes:
    """The content of a file of ``common/data/embedded``, its SHA-256 checked. Raises UserError when it is damaged."""
    path = EMBEDDED / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; restore it with: git checkout -- {path}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != EMBEDDED_SHA256[name]:
        raise UserError(
            f"{path} is damaged: sha256 is {found}, expected {EMBEDDED_SHA256[name]}; restore it with: "
            f"git checkout -- {path}"
        )
    return content
