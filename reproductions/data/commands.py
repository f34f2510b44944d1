"""``python -m reproductions data status|fetch|prepare|verify``: the data sets under the data root."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common.data.pictures.folders import list_pictures
from common.data.pictures.sets import content_digest, open_pictures
from common.data.pins import (
    EMBEDDED_SHA256,
    check_file,
    data_pins,
    data_root,
    embedded_file,
    fetch_command,
    pins_of,
)
from common.errors import UserError
from common.run.files import write_json
from common.words import hint
from reproductions.arguments import OneLineParser
from reproductions.checkpoints.commands import fetch as fetch_checkpoint
from reproductions.checkpoints.commands import location
from reproductions.checkpoints.pins import load_checkpoints
from reproductions.data import pictures as prepare_pictures
from reproductions.data import tables as prepare_tables
from reproductions.data.download import download

DOWNLOADS = ".downloads"
EMBEDDED = {"digits": "digits.npz", "kjv": "kjv.txt.xz"}
IMAGENET_HELP = (
    "imagenet cannot be fetched by a program: get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from "
    "image-net.org, unpack them into imagenet/train/CLASS/ and imagenet/val/ under the data root and run: "
    "python -m reproductions data prepare imagenet --labels FILE_OR_DEVKIT"
)


def known_sets() -> list[str]:
    """All sets that can be verified: the embedded ones, the pinned ones, ImageNet."""
    return [*EMBEDDED, *data_pins(), "imagenet"]


# --- verifying -----------------------------------------------------------------------------------------------------


def verify(name: str, root: Path, unpinned_allowed: bool = False, hashed: bool = True) -> dict[str, Any]:
    """Check a set: ``{set, files: {file: digest}, pinned}``. Raises UserError with the command that gets or mends
    it. hashed: whether ImageNet's pictures, which nobody pinned, are read for their digest.
    """
    options = SimpleNamespace(data=root, allow_unpinned=unpinned_allowed)
    if name in EMBEDDED:
        embedded_file(EMBEDDED[name])
        return {"set": name, "files": {EMBEDDED[name]: "sha256:" + EMBEDDED_SHA256[EMBEDDED[name]]}, "pinned": True}
    if name == "imagenet":
        opened = [open_pictures("imagenet", split, options, hashed) for split in ("train", "test")]
        files = {key: value for part in opened for key, value in part.pins.items()}
        return {"set": name, "files": files, "pinned": all(part.pinned for part in opened)}
    entry = pins_of(name)
    if "tree" in entry:
        return _verify_tree(name, entry, root, unpinned_allowed)
    files, pinned = {}, True
    for file, pin in entry["files"].items():
        checked = check_file(
            root / entry["folder"] / file,
            pin,
            root=root,
            remedy=fetch_command(name, root),
            unpinned_allowed=unpinned_allowed,
        )
        files[f"{entry['folder']}/{file}"] = checked.digest
        pinned &= checked.pinned
    return {"set": name, "files": files, "pinned": pinned}


def _verify_tree(name: str, entry: dict[str, Any], root: Path, unpinned_allowed: bool) -> dict[str, Any]:
    files, pinned = {}, True
    for part, expected in entry["tree"].items():
        folder = root / entry["folder"] / part
        if not folder.is_dir():
            raise UserError(f"{folder} is missing; get it with: {fetch_command(name, root)}")
        found = content_digest(open_pictures(name, part, SimpleNamespace(data=root), hashed=False))
        if found != expected and not unpinned_allowed:
            raise UserError(
                f"{folder} is not the pinned set: sha256 of its files is {found}, expected {expected}; remove it and "
                f"get it with: {fetch_command(name, root)}"
            )
        files[f"{entry['folder']}/{part}"] = f"sha256:{found}"
        pinned &= found == expected
    return {"set": name, "files": files, "pinned": pinned}


def state(name: str, root: Path) -> tuple[str, str]:
    """(state, remark) of a set: pinned, unpinned, missing, incomplete or damaged."""
    try:
        return ("pinned" if verify(name, root, hashed=False)["pinned"] else "unpinned"), ""
    except UserError as error:
        message = str(error)
    folder = root / (name if name == "imagenet" else pins_of(name)["folder"])
    files = () if name == "imagenet" else pins_of(name).get("files", ())
    if not folder.is_dir() or (files and not any((folder / file).exists() for file in files)):
        return "missing", IMAGENET_HELP if name == "imagenet" else fetch_command(name, root)
    return ("incomplete" if "is missing" in message else "not the pinned files"), message


# --- fetching ------------------------------------------------------------------------------------------------------


def fetch(name: str, root: Path, keep: bool = False, **options: Any) -> str:
    """Bring a set into place; returns what was done. Raises UserError with the way by hand where there is no other."""
    if name in EMBEDDED:
        verify(name, root)
        return "is in the repository"
    if name == "imagenet":
        raise UserError(IMAGENET_HELP)
    entry = pins_of(name)
    try:
        verify(name, root)
        return "already there"
    except UserError:
        pass
    folder = root / entry["folder"]
    if name == "sgnas":
        generator = load_checkpoints()["sgnas-generator"]
        fetch_checkpoint(generator, root, **options)
        prepare_tables.sgnas_generator(root, location(generator, root))
    if "archive" in entry:
        _from_archive(name, entry, root, keep, options)
    for file, pin in entry.get("files", {}).items():
        if "urls" in pin and not _right(folder / file, pin, root):
            digests = {key: pin[key] for key in ("sha256", "md5", "git_blob") if key in pin}
            download(pin["urls"], folder / file, digests=digests, size=pin.get("bytes"), **options)
    if "by_hand" in entry:
        raise UserError(f"{name} cannot be fetched by a program: {' '.join(entry['by_hand'].split())}")
    verify(name, root)
    return "fetched and verified"


def _right(path: Path, pin: dict[str, Any], root: Path) -> bool:
    try:
        return check_file(path, pin, root=root, remedy="").pinned
    except UserError:
        return False


def _from_archive(name: str, entry: dict[str, Any], root: Path, keep: bool, options: dict[str, Any]) -> None:
    archive = entry["archive"]
    path = root / DOWNLOADS / archive["name"]
    digests = {key: archive[key] for key in ("sha256", "md5") if key in archive}
    if not (path.is_file() and _right(path, digests, root)):
        download(archive["urls"], path, digests=digests, size=archive.get("bytes"), **options)
    if entry.get("prepare") == "tiny-imagenet-20":
        prepare_pictures.tiny_imagenet_20(root, path)
    else:
        unpack(path, root / entry["folder"], entry["files"], root)
    if not keep:
        path.unlink()


def unpack(archive: Path, folder: Path, files: dict[str, Any], root: Path) -> None:
    """Take the pinned files out of a tar archive, by name, each checked before it stands under its name."""
    found = set()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                source = tar.extractfile(member) if member.isfile() and name in files else None
                if source is None:
                    continue
                part = folder / f".{name}.part"
                try:
                    with part.open("wb") as handle:
                        shutil.copyfileobj(source, handle, 1 << 20)
                    check_file(part, files[name], root=root, remedy="fetching it again")
                    part.replace(folder / name)
                finally:
                    part.unlink(missing_ok=True)
                found.add(name)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{archive} is no readable tar archive: {error}; remove it and fetch again") from None
    except OSError as error:
        raise UserError(f"cannot unpack {archive}: {error.strerror or error}; free space and fetch again") from None
    missing = sorted(set(files) - found)
    if missing:
        raise UserError(f"{archive} lacks {missing[0]}; remove it and fetch again")


# --- preparing -----------------------------------------------------------------------------------------------------


def run_prepare(arguments: argparse.Namespace, root: Path) -> str:
    """The prepare verb for one set or task; returns what was done."""
    task, source = arguments.task, arguments.source
    if task == "nasbench201":
        origin = prepare_tables.nasbench201_tables(root, source)
        return f"tables made from {origin}; they are not the pinned ones, results are marked unpinned"
    if task == "nasbench201-v1.0":
        origin = prepare_tables.nasbench201_first_release(root, _given(source, "--source"))
        return f"made from {origin}; {_words(verify(task, root))}"
    if task == "sgnas":
        return prepare_tables.sgnas_generator(root, _given(source, "--source"))
    if task == "tiny-imagenet-20":
        return prepare_pictures.tiny_imagenet_20(root, source or root / DOWNLOADS / "tiny-imagenet-200.zip")
    if task == "subset":
        if not arguments.classes or not arguments.per_class:
            raise UserError("prepare subset needs --classes and --per-class")
        source, out = _given(source, "--source"), _given(arguments.to, "--to")
        if arguments.per_class != int(arguments.per_class):
            raise UserError(f"prepare subset takes whole pictures per class, not {arguments.per_class:g}")
        return prepare_pictures.subset(source, out, arguments.classes, int(arguments.per_class))
    if task == "split":
        if not arguments.per_class:
            raise UserError("prepare split needs --per-class (50, or a share such as 0.2)")
        source, out = _given(source, "--source"), _given(arguments.to, "--to")
        return prepare_pictures.split_folders(source, out, arguments.per_class, arguments.seed)
    if task == "lmdb":
        source, out = _given(source, "--source"), _given(arguments.to, "--to")
        return f"{prepare_pictures.folder_lmdb(list_pictures(source, arguments.split), out)} pictures in {out}"
    done = []
    if arguments.labels:
        labels = prepare_pictures.validation_labels(arguments.labels)
        done.append(
            f"{prepare_pictures.imagenet_validation(root / 'imagenet' / 'val', labels)} validation pictures in place"
        )
    if arguments.lmdb:
        done.append(", ".join(f"{name}: {count}" for name, count in prepare_pictures.imagenet_lmdb(root).items()))
    if not done:
        raise UserError("prepare imagenet needs --labels FILE_OR_DEVKIT (validation class folders) or --lmdb")
    return "; ".join(done)


def _given(path: Path | None, flag: str) -> Path:
    if path is None:
        raise UserError(f"{flag} is missing; see: python -m reproductions data prepare --help")
    return path


# --- the command line ----------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m reproductions data", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, about in (
        ("status", "which sets are here, and how to get the others"),
        ("fetch", "download and verify"),
        ("verify", "check the files in place against their pins"),
    ):
        sub = verbs.add_parser(verb, help=about, description=about)
        sub.add_argument("sets", nargs="*", metavar="SET", help="data sets; see status")
        sub.add_argument("--data", type=Path, help="data root (default: NAS_DATA or data)")
        if verb == "status":
            sub.add_argument("--json", action="store_true")
        if verb == "fetch":
            sub.add_argument("--keep", action="store_true", help="keep downloaded archives")
        if verb == "verify":
            sub.add_argument("--manifest", type=Path, help="write what was verified to this JSON file")
            sub.add_argument("--allow-unpinned", action="store_true", help="accept files that differ from their pins")
    sub = verbs.add_parser("prepare", help="make a set from what its official source gives")
    sub.add_argument(
        "task", choices=("nasbench201", "nasbench201-v1.0", "sgnas", "tiny-imagenet-20", "imagenet",
                         "subset", "split", "lmdb"),
        help="subset: the first classes and pictures of a folder; split: a search split of a folder; lmdb: of a folder",
    )  # fmt: skip
    sub.add_argument("--data", type=Path, help="data root (default: NAS_DATA or data)")
    sub.add_argument("--source", type=Path, help="official file, archive or folder")
    sub.add_argument("--to", type=Path, help="target of subset, split and lmdb")
    sub.add_argument("--labels", type=Path, help="imagenet: labels of the validation pictures, or the devkit's folder")
    sub.add_argument("--lmdb", action="store_true", help="imagenet: write train.lmdb and val.lmdb")
    sub.add_argument("--classes", type=int, default=0)
    sub.add_argument("--per-class", type=float, default=0.0)
    sub.add_argument("--split", choices=("all", "train", "val", "test"), default="all", help="lmdb: which part")
    sub.add_argument("--seed", type=int, default=0)
    return parser


def _chosen(arguments: argparse.Namespace) -> list[str]:
    known = known_sets()
    arguments.sets = [name if name in known else name.lower() for name in arguments.sets]  # ImageNet16-120
    unknown = [name for name in arguments.sets if name not in known]
    if unknown:
        raise UserError(f"unknown data set {unknown[0]!r}{hint(unknown[0], known)}; known: {', '.join(known)}")
    if not arguments.sets and arguments.verb != "status":
        raise UserError(f"name the sets to {arguments.verb}: {', '.join(known)}")
    return arguments.sets or known


def main(argv: list[str]) -> int:
    """Run the command. Status 0; 1 when one of several sets failed (each failure is one line on stderr)."""
    arguments = _parser().parse_args(argv)
    root = data_root(arguments)
    if arguments.verb == "prepare":
        print(f"{arguments.task}: {run_prepare(arguments, root)}")
        return 0
    chosen = _chosen(arguments)
    if arguments.verb == "status":
        return _status(chosen, root, arguments.json)
    actions: dict[str, Callable[[str], Any]] = {
        "fetch": lambda name: fetch(name, root, keep=arguments.keep),
        "verify": lambda name: verify(name, root, arguments.allow_unpinned),
    }
    results, failures = [], 0
    for name in chosen:
        try:
            result = actions[arguments.verb](name)
        except UserError as error:
            if len(chosen) == 1:
                raise
            failures += 1
            print(f"error: {error}", file=sys.stderr)
            continue
        results.append(result)
        print(f"{name}: {result if isinstance(result, str) else _words(result)}")
    if arguments.verb == "verify" and arguments.manifest and not failures:
        write_json(arguments.manifest, {"sets": results})
    return 1 if failures else 0


def _words(result: dict[str, Any]) -> str:
    count = len(result["files"])
    return f"{count} file{'s' if count != 1 else ''} verified ({'pinned' if result['pinned'] else 'UNPINNED'})"


def _status(chosen: list[str], root: Path, as_json: bool) -> int:
    rows = [dict(zip(("set", "state", "remark"), (name, *state(name, root)), strict=True)) for name in chosen]
    if as_json:
        print(json.dumps({"root": str(root), "sets": rows}, indent=2))
        return 0
    print(f"data root: {root}")
    for row in rows:
        print(f"{row['set']:<18}{row['state']:<22}{row['remark']}")
    return 0
