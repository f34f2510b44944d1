"""Which files of a folder the suite wrote: those may be written again, all others are somebody's and are left alone.

``own(folder)`` says that a command writes there; from then on every writer of ``common.run.files`` records a name in
``.written.json`` before it writes the file, and refuses to write over a file that is not recorded. A kill in between
leaves at most a name without a file.
"""

from __future__ import annotations

import glob
import json
from pathlib import Path

from common.errors import UserError

RECORD = ".written.json"
# Files by which a finished run is known in folders from before there was a record; a log beside them is not ours.
KINDS = frozenset({".json", ".csv", ".safetensors", ".svg", ".png", ".pdf", ".dot"})

_folders: dict[Path, Outputs] = {}


class Outputs:
    """The suite's files in one folder: ``files`` of the present run, ``earlier`` ones of runs before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: set[str] = set()
        self.earlier: set[str] = set()
        try:
            known = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            self.files, self.earlier = set(known["files"]), set(known["earlier"])
            self.recorded = True
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            self.recorded = False

    @property
    def names(self) -> set[str]:
        """All files of ours, there or not."""
        return self.files | self.earlier

    def content(self) -> bytes:
        """What the record holds."""
        return (json.dumps({"files": sorted(self.files), "earlier": sorted(self.earlier)}) + "\n").encode()

    def adopt(self, names: set[str]) -> None:
        """Names known as ours from elsewhere."""
        self.earlier |= names - self.files

    def begin(self) -> None:
        """A new run starts: what is there of ours is an earlier one's."""
        self.earlier, self.files = self.names, set()

    def claim(self, name: str) -> bool:
        """Whether the record has to be written before this file. Raises UserError for a file that is not ours."""
        if name in self.files:
            return False
        if name not in self.earlier and (self.folder / name).exists():
            raise UserError(
                f"{self.folder / name} is no file of this suite and is not overwritten; choose another --out"
            )
        self.files.add(name)
        self.earlier.discard(name)
        return True


def own(folder: Path) -> Outputs:
    """The record of a folder that this process writes to."""
    key = Path(folder).absolute()
    found = _folders.get(key)
    if found is None:
        found = _folders[key] = Outputs(Path(folder))
    return found


def leave(folder: Path) -> None:
    """The folder is no longer this process's."""
    _folders.pop(Path(folder).absolute(), None)


def claim(path: Path) -> Outputs | None:
    """Before a file is written: the record that has to be written first, or None. Raises UserError.

    Hidden files and run states are bookkeeping and no one's results.
    """
    path = Path(path).absolute()
    for folder in path.parents:
        if folder in _folders:
            parts = path.relative_to(folder).parts
            if parts[0].startswith(".") or parts[0] == "state":
                return None
            holder = _folders[folder]
            return holder if holder.claim("/".join(parts)) else None
    return None


def sweep(folder: Path, ours: set[str]) -> None:
    """Remove the temporary files that killed writers of our files left (``common.run.files`` names them
    ``.NAME.XXXXXXXX.tmp``); whoever calls it holds the folder's lock."""
    for name in {RECORD, *ours}:
        path = folder / name
        for left in path.parent.glob(f".{glob.escape(path.name)}.????????.tmp"):
            left.unlink(missing_ok=True)


def strangers(folder: Path, ours: set[str]) -> list[str]:
    """Files of a kind that runs write, which are not ours: a run in this folder might want to write one of them."""
    if not folder.is_dir():
        return []
    return sorted(
        p.name for p in folder.iterdir()
        if p.is_file() and not p.name.startswith(".") and p.name not in ours
        and (p.suffix in KINDS or p.name.startswith("arch_pool"))
    )  # fmt: skip
