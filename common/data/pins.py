"""Pinned files: where a data set lies, what its files' hashes must be, and the check on opening."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.data.digests import cached_hash, content_sha256
from common.errors import UserError
from common.outside import check_nesting
from common.words import hint

ROOT = Path(__file__).resolve().parents[2]
PINS_FILE = Path(__file__).resolve().parent / "pins.yaml"
EMBEDDED = Path(__file__).resolve().parent / "embedded"
EMBEDDED_SHA256 = {
    "digits.npz": "2e542e7562b7595a480c60316646dc89e3bc686a856bf00fe82a0cb4d09cdb06",
    "kjv.txt.xz": "69617f53507d7d151603d71d1f914abe96325612e0dad7af55665c90c0af06b0",
    "nasbench201_splits.npz": "1a982fd3f4887aa71d06e16ca568904bd00ef228c99a807d028408d0bbc2e208",
}
PREPARED_SUFFIX = ".origin.json"


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
        text = path.read_text(encoding="utf-8")
        check_nesting(text, path)
        pins = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the data pins {path}: {error}; restore the file from git") from None
    except (yaml.YAMLError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(pins, dict):
        raise UserError(f"{path}: a mapping from data set to pins is expected")
    for name, entry in pins.items():
        if not _is_entry(entry):
            raise UserError(f"{path}: {name} must have a folder, and files (or a tree) with pins; restore it from git")
    return pins


def _is_entry(entry: Any) -> bool:
    """Whether an entry of the pins file has the parts that are looked up in it."""
    if not isinstance(entry, dict) or not isinstance(entry.get("folder", ""), str):
        return False
    files, tree = entry.get("files", {}), entry.get("tree", {})
    mappings = isinstance(files, dict) and isinstance(tree, dict) and ("folder" in entry or not files)
    return mappings and all(isinstance(name, str) and isinstance(pin, dict) for name, pin in files.items())


def data_pins(path: Path | None = None) -> dict[str, dict[str, Any]]:
    """All entries of the pins file, by data set."""
    return _read_pins(path or PINS_FILE)


def pins_of(name: str) -> dict[str, Any]:
    """The entry of one data set. Raises UserError for an unknown name."""
    pins = data_pins()
    if name not in pins:
        raise UserError(f"unknown data set {name!r}{hint(name, pins)}; known: {', '.join(sorted(pins))}")
    return pins[name]


def pin_of(name: str, file: str) -> dict[str, Any]:
    """The pin of a file of a data set. Raises UserError where the pins file has none."""
    try:
        return pins_of(name)["files"][file]
    except KeyError:
        raise UserError(f"{PINS_FILE} has no pin of {file} of {name}; restore it from git") from None


def fetch_command(name: str, root: Path | None = None) -> str:
    """The command that gets a data set, with ``--data`` where the root is not the one it would take by itself."""
    elsewhere = f" --data {root}" if root is not None and root != data_root() else ""
    return f"python -m reproductions data fetch {name}{elsewhere}"


# --- hashing -------------------------------------------------------------------------------------------------------


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
    Of a container that the pin gives ``content_sha256`` for, the content alone decides (``content_sha256``).
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
