"""What a run is: its data by digest, its settings with paths spelt one way, the files they name by content."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.run.files import read_json
from common.settings import plain, to_dict


def data_of(extra: dict[str, Any]) -> tuple[dict[str, str], bool, dict[str, Any]]:
    """Pins, whether all data were pinned, what is left of ``extra``; plain digests are not pinned unless said."""
    data, pinned = extra.pop("data", None), extra.pop("pinned", None)
    if data is None:
        data = extra.pop("pins", {})
    if hasattr(data, "pins"):
        data = [data]
    if isinstance(data, Iterable) and not isinstance(data, dict | str):
        sets, data = list(data), {}
        for item in sets:
            data.update(item.pins)
        pinned = all(item.pinned for item in sets) and pinned is not False
    data = {str(k): str(v) for k, v in dict(data).items()}
    if pinned is None:
        pinned = not data
    return data, bool(pinned), extra


def tidy(values: dict[str, Any]) -> dict[str, Any]:
    """The settings with each path that is there spelt in one way: ``./x``, ``x`` and the full path of it are one file,
    ``./x@32`` and ``x@32`` one set.
    """

    def one_way(value: Any) -> Any:
        if not isinstance(value, str) or "/" not in value:
            return value
        path, at, size = value, "", ""
        if not os.path.exists(value):
            path, at, size = value.rpartition("@")
        if not path or (at and not size.isdecimal()) or not os.path.exists(os.path.expanduser(path)):
            return value
        path, here = os.path.normpath(os.path.expanduser(path)), os.getcwd()
        if os.path.isabs(path) and os.path.commonpath([path, here]) == here:
            path = os.path.relpath(path)
        return path + at + size

    return {name: one_way(value) for name, value in values.items()}


def input_files(settings: Any) -> dict[str, str]:
    """SHA-256 of the files that settings name (an architecture, a checkpoint; of a run's folder its result): their
    content bears on the result."""
    import hashlib

    found = {}
    for name, value in to_dict(settings).items():
        if isinstance(value, str) and value:
            path = os.path.join(value, "result.json") if os.path.isdir(value) else value
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of every leaf of nested mappings."""
    if isinstance(tree, dict) and tree:
        return {k: v for key, sub in tree.items() for k, v in flat(sub, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): tree}


def difference(
    known: dict[str, Any], identity: dict[str, Any], settings: Any, bearing: dict[str, Any]
) -> tuple[str, Any, Any] | None:
    """(name, its value there, its value now) of the first thing that tells this run from the folder's, if any.

    known: the folder's settings.json. identity, settings: this run's; bearing: the settings that bear a result.
    """
    old = flat({**known, "settings": tidy(known["settings"])})
    new = flat(plain(identity))
    free = set(flat({"settings": to_dict(settings)})) - set(flat({"settings": bearing}))
    for key in sorted((set(old) | set(new)) - free, key=lambda k: (not k.startswith("settings."), k)):
        if old.get(key) != new.get(key) or (key in old) != (key in new):
            return key.removeprefix("settings."), old.get(key, "absent"), new.get(key, "absent")
    return None


def finished(folder: Path) -> list[str]:
    """The outputs of the finished run that a folder holds, if any. Raises UserError for a damaged list."""
    mark = folder / "finished.json"
    if not mark.exists():
        return []
    files = content.get("files") if isinstance(content := read_json(mark), dict) else None
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        raise UserError(f"{mark} is damaged: it names no files; start over with --no-resume")
    return files


def result_of(folder: Path) -> dict[str, Any]:
    """What the finished run wrote. Raises UserError for a file that is no result."""
    document = read_json(path := folder / "result.json")
    if not isinstance(document, dict) or not {"paper", "stage", "fingerprint"} <= set(document):
        raise UserError(f"{path} is damaged: it is no result of a run; start over with --no-resume")
    return document
