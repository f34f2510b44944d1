"""Damaged files: a bit turned over anywhere, an end cut off, nothing left, a sidecar of another file.

Every kind of file is made small, then damaged at many places. What reads it must name it in one line, or, where the
damage touches nothing that is read, give exactly what the whole file gave; a run's state must fall back to the older
one. A damaged file that reads as something else counts as not survived.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from common.data import pins as data_pins
from common.data.pictures.lmdb import LmdbStore, write_lmdb
from common.data.pictures.sets import open_pictures
from common.data.sets import open_images
from common.data.text import Corpus
from common.errors import UserError
from common.run.state import Store
from common.weights.read import load_tensors, save_weights
from reproductions.checkpoints.pins import PINS, load_checkpoints
from reproductions.claims import load_file
from tests.reliability.hostile.limits import outcome
from tests.reliability.proof.counts import Count

PLACES = 10  # places a moment
MAPPED = "data.mdb"
KINDS = {"corruption": "damaged files that were named, or told from whole ones by nothing that is read"}
Reader = Callable[[Path], Any]


def damaged(content: bytes, places: int, seed: int) -> Iterator[bytes]:
    """The content with one bit turned over, at so many places; cut at a tenth as many; and empty."""
    draw = random.Random(seed)
    for _ in range(places):
        at, changed = draw.randrange(len(content)), bytearray(content)
        changed[at] ^= 1 << draw.randrange(8)
        yield bytes(changed)
    for _ in range(max(places // 10, 2)):
        yield content[: draw.randrange(1, len(content))]
    yield b""


def told(value: Any) -> str:
    """A digest of what was read."""
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(
            repr((value.dtype, value.shape)).encode() + value.contiguous().numpy().tobytes()
        ).hexdigest()
    if isinstance(value, dict):
        return repr([(key, told(value[key])) for key in sorted(value, key=repr)])
    if isinstance(value, list | tuple):
        return repr([told(item) for item in value])
    return repr(value)


def survives(path: Path, reader: Reader, whole: str) -> bool:
    """Whether a damaged file is a line, or reads as the whole one does. A mapped file is read in a fork: there a
    damaged page can end the process.
    """

    def read() -> None:
        assert told(reader(path)) == whole, "it reads as something else"

    if path.name == MAPPED:
        said = outcome(read)
        return said == "ok" or (said.startswith("line: ") and "\n" not in said)
    try:
        read()
    except UserError as error:
        return "\n" not in str(error) and bool(str(error))
    except BaseException:
        return False
    return True


def of_file(path: Path, reader: Reader, places: int) -> tuple[int, int]:
    """(injected, survived) of one file, which is whole again afterwards."""
    content, whole, injected, survived = path.read_bytes(), told(reader(path)), 0, 0
    for bad in damaged(content, places, seed=len(content)):
        path.write_bytes(bad)
        injected += 1
        survived += survives(path, reader, whole)
    path.write_bytes(content)
    return injected, survived


# -- the files ----------------------------------------------------------------------------------------------------


def weights(folder: Path) -> Iterator[tuple[str, Path, Reader]]:
    """Our own and the authors' containers. The older container holds no sums of its content: what is damaged there can
    be told by a pin only, so it is read as the commands for published files do.
    """
    tensors = {f"layer{i}.weight": torch.randn(7, 5, generator=torch.Generator().manual_seed(i)) for i in range(6)}
    save_weights(tensors, folder / "own.safetensors", {"paper": "evnas", "architecture": [[1, 2], [3]]})
    yield "own weights", folder / "own.safetensors", load_tensors
    torch.save({"state_dict": tensors, "epoch": 3}, folder / "zip.pt")
    yield "authors' checkpoints, zip container", folder / "zip.pt", load_tensors
    torch.save({"state_dict": tensors}, folder / "old.pt", _use_new_zipfile_serialization=False)
    pin = {"sha256": hashlib.sha256((folder / "old.pt").read_bytes()).hexdigest()}

    def pinned(path: Path) -> Any:
        data_pins.check_file(path, pin, root=folder, remedy="fetching it")
        return load_tensors(path)

    yield "authors' checkpoints, older container, by their pins", folder / "old.pt", pinned


def sets(folder: Path) -> Iterator[tuple[str, Path, Reader]]:
    """CIFAR's pickles and Penn Treebank by their pins, folders of pictures, LMDBs."""
    root, rng = folder / "data", np.random.RandomState(0)
    entry = {"folder": "cifar-100-python", "files": {}}
    (root / "cifar-100-python").mkdir(parents=True)
    for part in ("train", "test"):
        content = {"data": rng.randint(0, 256, (3, 3072), dtype=np.uint8), "fine_labels": [0, 1, 2]}
        raw = pickle.dumps(content, protocol=2)
        (root / "cifar-100-python" / part).write_bytes(raw)
        entry["files"][part] = {"sha256": hashlib.sha256(raw).hexdigest()}
    text = {"folder": "penn", "files": {}}
    (root / "penn").mkdir()
    for part in ("train", "valid", "test"):
        raw = b" the cat sat on a mat \n a dog ran \n" * 20
        (root / "penn" / f"{part}.txt").write_bytes(raw)
        text["files"][f"{part}.txt"] = {"sha256": hashlib.sha256(raw).hexdigest()}
    options, known = SimpleNamespace(data=root, allow_unpinned=False), {"cifar100": entry, "ptb": text}

    def with_pins(reader: Callable[[], Any]) -> Reader:
        def read(_: Path) -> Any:
            before, data_pins.data_pins = data_pins.data_pins, lambda path=None: known
            try:
                return reader()
            finally:
                data_pins.data_pins = before

        return read

    def cifar() -> Any:
        images = open_images("cifar100", "train", options)
        return images.pixels, images.labels

    yield "CIFAR by its pins", root / "cifar-100-python" / "train", with_pins(cifar)
    yield (
        "Penn Treebank by its pins",
        root / "penn" / "train.txt",
        with_pins(lambda: Corpus.open("ptb", options, max_tokens=200).train),
    )
    for label in ("ant", "bee"):
        (folder / "pictures" / "train" / label).mkdir(parents=True)
        for number in range(2):
            pixels = Image.fromarray(rng.randint(0, 256, (8, 8, 3), dtype=np.uint8))
            pixels.save(folder / "pictures" / "train" / label / f"{number}.png")
    shutil.copytree(folder / "pictures" / "train", folder / "pictures" / "test")
    first = folder / "pictures" / "train" / "ant" / "0.png"

    def identified(path: Path) -> Any:
        """A folder has no pin: the run that was made from it knows it by its digest."""
        return dict(open_pictures(str(folder / "pictures"), "train").pins)

    whole = identified(first)

    def unchanged(path: Path) -> Any:
        if identified(path) != whole:
            raise UserError(f"{path}: another set than the run's")
        return whole

    yield "folders of pictures, by a run's record", first, unchanged
    records = [(f"{n}.png", n % 2, first.read_bytes()) for n in range(3)]
    write_lmdb(folder / "x.lmdb", records, ("ant", "bee"))

    def lmdb(path: Path) -> Any:
        other = folder / f"copy-{random.getrandbits(60)}.lmdb"
        other.mkdir()
        shutil.copy(path, other / "data.mdb")
        store = LmdbStore(other)
        return [store.record(n) for n in range(len(store))]

    yield "LMDB", folder / "x.lmdb" / "data.mdb", lmdb


def small(folder: Path) -> Iterator[tuple[str, Path, Reader]]:
    """Embedded sets, claims, pins. Text has no sums: a changed word of a description reads as another; what counts is
    that no reader ends otherwise than by a line or a value.
    """
    for name in ("digits.npz", "kjv.txt.xz", "nasbench201_splits.npz"):
        shutil.copy(data_pins.EMBEDDED / name, folder / name)

        def embedded(path: Path, name: str = name) -> Any:
            before, data_pins.EMBEDDED = data_pins.EMBEDDED, path.parent
            try:
                return hashlib.sha256(data_pins.embedded_file.__wrapped__(name)).hexdigest()
            finally:
                data_pins.EMBEDDED = before

        yield "embedded sets", folder / name, embedded


def texts(folder: Path) -> Iterator[tuple[str, Path, Reader]]:
    """Claims and pins of the repository, cut to their beginnings."""
    claims = data_pins.ROOT / "reproductions" / "claims" / "evnas.yaml"
    sources = {"claims": (claims, load_file), "pins of checkpoints": (PINS, load_checkpoints),
               "pins of data": (data_pins.PINS_FILE, data_pins._read_pins.__wrapped__)}  # fmt: skip
    for kind, (source, reader) in sources.items():
        (path := folder / source.name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")

        def anything(path: Path, reader: Reader = reader) -> str:
            reader(path)
            return "read"

        yield f"{kind}: a line or a value", path, anything


def states(folder: Path, places: int) -> Iterator[tuple[str, int, int]]:
    """The newest state of a run, its sidecar, both exchanged: the older state is read, and both damaged is a line."""
    store = Store(folder / "state")
    for number in range(2):
        store.save({"number": number, "kept": {"w": torch.arange(50.0) + number}})
    older, newest = (store.path(number) for number in store.numbers())
    sidecar = newest.with_name(newest.name + ".sha256")
    for kind, path in (("run states", newest), ("sidecars of run states", sidecar)):
        content, injected, survived = path.read_bytes(), 0, 0
        for bad in damaged(content, places, seed=1):
            path.write_bytes(bad)
            injected += 1
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # it says which state is damaged
                    package = store.load() or {}
                whole = hashlib.sha256(newest.read_bytes()).hexdigest() == sidecar.read_text(errors="replace").strip()
                survived += package["number"] == (1 if whole else 0)
            except BaseException:
                continue
        path.write_bytes(content)
        yield kind, injected, survived
    mine, other = sidecar.read_bytes(), older.with_name(older.name + ".sha256").read_bytes()
    sidecar.write_bytes(other)
    with contextlib.redirect_stderr(io.StringIO()):
        fell_back = (store.load() or {}).get("number") == 0
    older.with_name(older.name + ".sha256").write_bytes(mine)
    try:
        store.load()
        refused = False
    except UserError as error:
        refused = "no older state is whole" in str(error)
    yield "exchanged sidecars", 2, fell_back + refused


def counted(moments: int) -> Iterator[Count]:
    """What was damaged and what survived, by kind of file; PLACES bits a moment."""
    places = moments * PLACES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, injected, survived in states(folder, places):
            yield Count("corruption", "all papers", kind, injected, survived)
        found: dict[str, list[int]] = {}
        for make in (weights, sets, small, texts):
            for kind, path, reader in make(folder):
                injected, survived = of_file(path, reader, places)
                sums = found.setdefault(kind, [0, 0])
                sums[0], sums[1] = sums[0] + injected, sums[1] + survived
        for kind, (injected, survived) in found.items():
            yield Count("corruption", "all papers", kind, injected, survived)
