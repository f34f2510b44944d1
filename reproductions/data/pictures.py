"""Making folders and LMDB files of pictures: Tiny-ImageNet-20, subsets, splits, ImageNet's class folders.

Everything is written under a temporary name and moved into place when complete.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from common.data.pictures.folders import list_pictures
from common.data.pictures.lmdb import write_lmdb
from common.data.pictures.sets import IMAGENET_COUNTS, FolderStore
from common.errors import UserError
from common.run import seeds

WNID = re.compile(r"n\d{8}")
TINY_CLASSES = (
    "n02509815", "n02124075", "n02123394", "n02125311", "n02423022", "n02504458", "n02415577", "n02094433",
    "n02132136", "n02480495", "n02481823", "n02364673", "n02403003", "n02437312", "n02099601", "n02486410",
    "n02395406", "n02113799", "n02410509", "n02085620",
)  # fmt: skip
TINY_TRAIN = 300  # of each class's 500 training pictures, numbers 0 to 299


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` which takes its place when the block ends without an error."""
    part = target.with_name(f".{target.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        if target.exists():
            shutil.rmtree(target)
        os.replace(part, target)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}; free space and run it again") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def tiny_imagenet_20(root: Path, source: Path) -> str:
    """``tiny-imagenet-20`` from Tiny-ImageNet's archive or unpacked folder: the 20 classes with the smallest
    ILSVRC-2012
    ids, training pictures 0 to 299 of each, all validation pictures; bytes unchanged.
    """
    read, names = _zip_reader(source) if source.is_file() else _folder_reader(source)
    label_file = next((name for name in names if name.endswith("val/val_annotations.txt")), None)
    if label_file is None:
        raise UserError(f"{source} holds no val/val_annotations.txt; give tiny-imagenet-200.zip or its unpacked folder")
    base = label_file.removesuffix("val/val_annotations.txt")
    labels = [line.split("\t")[:2] for line in read(label_file).decode().splitlines() if line.strip()]
    target = root / "tiny-imagenet-20"
    with building(target) as part:
        for wnid in TINY_CLASSES:
            for number in range(TINY_TRAIN):
                name = f"{wnid}_{number}.JPEG"
                _put(part / "train" / wnid / name, read(f"{base}train/{wnid}/images/{name}"))
        for name, wnid in labels:
            if wnid in TINY_CLASSES:
                _put(part / "val" / wnid / name, read(f"{base}val/images/{name}"))
    return str(target)


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _zip_reader(source: Path) -> tuple[Callable[[str], bytes], list[str]]:
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError, ValueError):
        raise UserError(f"{source} is no readable zip archive; download it anew") from None

    def read(name: str) -> bytes:
        try:
            return archive.read(name)
        except (KeyError, ValueError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise UserError(f"{source}: {name} is missing or damaged ({error}); download it anew") from None

    return read, archive.namelist()


def _folder_reader(source: Path) -> tuple[Callable[[str], bytes], list[str]]:
    if not source.is_dir():
        raise UserError(f"{source} is missing; give tiny-imagenet-200.zip or its unpacked folder with --source")
    found = [str(path.relative_to(source)) for path in source.glob("**/val_annotations.txt")]

    def read(name: str) -> bytes:
        try:
            return (source / name).read_bytes()
        except OSError as error:
            raise UserError(f"{source / name}: {error.strerror}; unpack the archive anew") from None

    return read, found


def subset(source: Path, target: Path, classes: int, per_class: int) -> str:
    """The first ``classes`` class folders and the first ``per_class`` files of each, in sorted order, as hard links."""
    if target.exists():
        raise UserError(f"{target} exists already; remove it to make it anew")
    pictures = list_pictures(source, "all")
    counts: dict[int, int] = {}
    with building(target) as part:
        for relative, label in pictures.samples:
            if label < classes and counts.get(label, 0) < per_class:
                counts[label] = counts.get(label, 0) + 1
                _link(pictures.root / relative, part / relative)
        names = pictures.classes[:classes]
        short = [name for label, name in enumerate(names) if counts.get(label, 0) < per_class]
        if len(pictures.classes) < classes or short:
            found = f"{short[0]} has fewer" if short else f"it has {len(pictures.classes)} classes"
            raise UserError(f"{source} is too small for {classes} classes of {per_class} pictures: {found}")
    return str(target)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def validation_labels(source: Path) -> dict[str, str]:
    """Picture name (without suffix) -> class folder of ImageNet's validation set.

    From a text or CSV file with a name and a class id (n01440764, …) in each line, or from the unpacked ILSVRC2012
    development kit (``data/meta.mat`` and ``data/ILSVRC2012_validation_ground_truth.txt``).
    """
    if source.is_dir():
        from scipy.io import loadmat

        truth = next(source.rglob("ILSVRC2012_validation_ground_truth.txt"), None)
        meta = next(source.rglob("meta.mat"), None)
        if truth is None or meta is None:
            raise UserError(f"{source} holds no meta.mat and ILSVRC2012_validation_ground_truth.txt; give the devkit")
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        numbers = truth.read_text().split()
        return {f"ILSVRC2012_val_{i:08d}": wnids[int(number)] for i, number in enumerate(numbers, 1)}
    if not source.is_file():
        raise UserError(f"{source} is missing; give the labels of ImageNet's validation pictures with --labels")
    labels = {}
    for line in source.read_text(encoding="utf-8").splitlines():
        wnid = WNID.search(line)
        if wnid and not line.startswith(wnid.group()):
            labels[Path(re.split(r"[\s,]", line, maxsplit=1)[0]).stem] = wnid.group()
    return labels


def imagenet_validation(folder: Path, labels: dict[str, str]) -> int:
    """Move the flat pictures of ``folder`` (``imagenet/val``) into class folders; a second call finishes an interrupted
    one. Returns the number of pictures now in class folders. Raises UserError before the first move if one has no
    label.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; unpack ILSVRC2012_img_val.tar there")
    flat = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in (".jpeg", ".jpg") and not path.name.startswith(".")
    )
    unknown = [path.name for path in flat if path.stem not in labels]
    if unknown:
        raise UserError(f"{folder}: {len(unknown)} pictures have no label, the first is {unknown[0]}; check --labels")
    for path in flat:
        target = folder / labels[path.stem] / path.name
        target.parent.mkdir(exist_ok=True)
        os.replace(path, target)
    return sum(1 for path in folder.glob("*/*") if not path.name.startswith("."))


def imagenet_lmdb(root: Path, quiet: bool = False) -> dict[str, int]:
    """``imagenet/train.lmdb`` and ``val.lmdb`` from the class folders, with the official counts checked. Returns
    them.
    """
    counts = {}
    for split, name in (("train", "train.lmdb"), ("val", "val.lmdb")):
        pictures = list_pictures(root / "imagenet", split)
        found = (len(pictures.classes), len(pictures))
        if found != IMAGENET_COUNTS[split]:
            expected = IMAGENET_COUNTS[split]
            raise UserError(
                f"{pictures.root} has {found[0]} classes and {found[1]} pictures, "
                f"expected {expected[0]} and {expected[1]}"
            )
        counts[name] = folder_lmdb(pictures, root / "imagenet" / name, quiet)
    return counts


def folder_lmdb(pictures: Any, target: Path, quiet: bool = False) -> int:
    """One LMDB from a list of pictures; returns how many."""
    store = FolderStore(pictures)
    records = ((relative, label, store.read(i)) for i, (relative, label) in enumerate(pictures.samples))

    def show(done: int) -> None:
        if not quiet and (done % 50_000 == 0 or done == len(pictures)):
            print(f"{target.name}: {done} of {len(pictures)}", flush=True)

    return int(write_lmdb(target, records, pictures.classes, show)["count"])


def split_folders(source: Path, target: Path, per_class: float, seed: int = 0) -> str:
    """``target/train`` and ``target/val`` from the training pictures of ``source``, as hard links.

    per_class: pictures of each class for ``val`` (50 of ImageNet's 1000 classes: 50,000), or a share below 1 (0.2);
    drawn per class, a function of the seed and the order of the file names.
    """
    if target.exists():
        raise UserError(f"{target} exists already; remove it to make it anew")
    pictures = list_pictures(source, "all")
    labels = np.array([label for _, label in pictures.samples])
    with building(target) as part:
        for label, name in enumerate(pictures.classes):
            members = np.flatnonzero(labels == label)
            count = round(per_class * len(members)) if per_class < 1 else int(per_class)
            if per_class >= 1 and per_class != count:
                raise UserError(f"--per-class {per_class:g} is neither a whole number nor a share below 1")
            if not 0 < count < len(members):
                raise UserError(f"{name} has {len(members)} pictures, {count} cannot be held out; change --per-class")
            held = set(seeds.numpy_rng(seed, "search split", label).permutation(members)[:count].tolist())
            for i in members.tolist():
                relative = Path(pictures.samples[i][0])
                _link(pictures.root / relative, part / ("val" if i in held else "train") / relative)
    return str(target)
