"""``convert-lmdb``: pack a folder of class folders into an LMDB that training and evaluation read.

Replaces the authors' converter, whose record format needs a function that pyarrow no longer has.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.data.pictures.folders import list_pictures
from common.data.pictures.lmdb import LmdbStore, write_lmdb
from common.data.pictures.sets import FolderStore, has_validation
from common.errors import UserError
from common.run.distributed import one_process
from common.run.files import make_folder
from common.run.folder import say
from papers.sgnas.settings import Convert

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def source_and_target(settings: Convert) -> tuple[Path, Path]:
    """Raises UserError where one of the two is missing."""
    if not settings.source or not settings.target:
        raise UserError("give a source folder and a target folder: convert-lmdb SOURCE TARGET")
    source, target = Path(settings.source), Path(settings.target)
    if not source.is_dir():
        raise UserError(f"{source} is no folder; give one that holds train/CLASS/* and val/CLASS/*")
    return source, target


def convert_lmdb(settings: Convert, options: RunOptions) -> dict[str, Any]:
    """Writes <target>/train.lmdb and <target>/val.lmdb (and test.lmdb where there is a test part beside it) from
    <source>/{train,val,test}/CLASS/*, then reads every record back.
    """
    one_process("convert-lmdb")
    source, target = source_and_target(settings)
    written = {}
    for part in ("train", "val", *(["test"] if has_validation(settings.source) else [])):
        pictures = list_pictures(source, part)
        store = FolderStore(pictures)
        records = ((name, label, store.read(number)) for number, (name, label) in enumerate(pictures.samples))
        path = target / f"{part}.lmdb"
        make_folder(target)
        write_lmdb(path, records, pictures.classes)
        check = LmdbStore(path)
        for number, (name, label) in enumerate(pictures.samples):  # checksums, order, labels and sizes
            stored = check.record(number)
            if stored[:2] != (name, label) or len(stored[2]) != (pictures.root / name).stat().st_size:
                raise UserError(f"{path}: record {number} is not {name}; the folder changed while it was read")
        written[part] = len(check)
        say(f"{path}: {len(check)} pictures, {len(check.classes)} classes, all records verified")
    return {"written": written}
