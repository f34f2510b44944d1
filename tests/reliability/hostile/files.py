"""Hostile files: what would run code, fill the memory or leave the folder is refused in one line, within limits.

Every entry of ``hostile`` is (case, function that reads the file, name that the line must hold).
"""

from __future__ import annotations

import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from common.data.pictures.decoding import decode
from common.outside import load_yaml
from common.run.files import read_json
from common.spaces.pasted import given, plain
from common.weights.read import load_strict, read_checkpoint
from reproductions.checkpoints.pins import load_checkpoints
from reproductions.claims import load_file
from tests.reliability.hostile.limits import refused
from tests.reliability.proof.counts import Count

Case = tuple[str, Callable[[], Any], str]
SPARSE_BYTES = 10 * 2**30
KINDS = {"hostile files": "files made to run code, to fill the memory or to stand for others, refused in one line"}
ALIASES = "\n".join(
    ["a: &a [1,1,1,1,1,1,1,1,1]"]
    + [f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]" for i in range(12)]
)
YAML = {
    "nested lists": "a: " + "[" * 100_000, "nested mappings": "{" * 3000, "aliases that explode": ALIASES,
    "an alias inside itself": "a: &x [*x]", "a number of 5,000 digits": "a: " + "9" * 5000,
    "a date that is none": "a: 2001-99-99", "a tag that would run code": "a: !!python/object/apply:os.system [touch X]",
    "a key that is a list": "? [1,[2]]\n: 3", "a zero byte": "a: \x00", "a tag of another type": "a: !!int foo",
    "a timestamp that is none": "a: !!timestamp zz", "a merge of a number": "<<: 3", "two documents": "--- 1\n--- 2",
}  # fmt: skip


class Code:
    """Pickled, it asks for a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval_name, ("1",)


def eval_name(_: str) -> None:
    """Stands for what a pickle may name."""
    raise SystemExit("code of a file was run")


def tensors() -> dict[str, torch.Tensor]:
    """Tensors that no network can be loaded with."""
    return {
        "sparse": torch.eye(4).to_sparse(), "compressed rows": torch.eye(4).to_sparse_csr(),
        "meta": torch.empty(4, 4, device="meta"), "complex": torch.ones(4, 4, dtype=torch.complex64),
        "quantised": torch.quantize_per_tensor(torch.ones(4, 4), 0.1, 0, torch.qint8),
        "integer": torch.ones(4, 4, dtype=torch.int64), "boolean": torch.ones(4, 4, dtype=torch.bool),
        "not a number": torch.full((4, 4), float("nan")), "infinite": torch.full((4, 4), float("inf")),
        "a shape beyond the file": torch.zeros(1).expand(10**12),
    }  # fmt: skip


def loaded(path: Path) -> None:
    """Read weights of one 4 x 4 matrix into a network that has it."""
    net = torch.nn.Linear(4, 4, bias=False)
    load_strict(net, read_checkpoint(path).tensors, source=path.name)


def png(width: int, height: int) -> bytes:
    """The beginning of a PNG that says it is so large; its data are missing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    """The beginning of a GIF that says it is so large."""
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b","


def tiff(width: int, height: int) -> bytes:
    """A TIFF header that says it is so large."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (279, 4, 8)]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + bytes(4)


def hostile(folder: Path) -> Iterator[Case]:
    """All cases; their files are made in ``folder``."""
    for kind, value in tensors().items():
        for form, zipped in (("zip", True), ("stream", False)):
            path = folder / f"{kind} {form}.pt"
            torch.save({"state_dict": {"weight": value}}, path, _use_new_zipfile_serialization=zipped)
            yield f"weights: a tensor that is {kind}", partial(loaded, path), "weight"
    for zipped in (True, False):
        path = folder / f"code {zipped}.pt"
        torch.save({"state_dict": {"weight": torch.ones(4, 4)}, "x": Code()}, path,
                   _use_new_zipfile_serialization=zipped)  # fmt: skip
        yield "weights: a pickle that would run code", partial(loaded, path), "allow-list"
    with zipfile.ZipFile(path := folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(2**26))
    yield "weights: a zip that unpacks to a thousand times its size", partial(loaded, path), "bomb.pt"
    header = json.dumps({"weight": {"dtype": "F32", "shape": [10**9, 4], "data_offsets": [0, 16 * 10**9]}}).encode()
    (path := folder / "shape.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    yield "weights: a header that tells of more than the file", partial(loaded, path), "shape.safetensors"
    yield from _sparse(folder)
    readers: dict[str, Callable[[Path], Any]] = {"settings": load_yaml, "claims": load_file, "pins": load_checkpoints}
    for what, reader in readers.items():
        for kind, text in YAML.items():
            (path := folder / f"{what} {kind}.yaml").write_text(text, encoding="utf-8")
            yield f"{what}: YAML with {kind}", partial(reader, path), ""
    for kind, text in {"nested lists": "[" * 100_000, "a number of 5,000 digits": "9" * 5000}.items():
        (path := folder / f"{kind}.json").write_text(text, encoding="utf-8")
        yield f"JSON with {kind}", partial(read_json, path), path.name
        yield f"pasted text with {kind}", partial(plain, text), ""
    pictures = {
        "x.png": png(60_000, 60_000), "y.png": png(12_000, 12_000), "x.gif": gif(65_000, 65_000),
        "x.tiff": tiff(60_000, 60_000), "cut.png": png(8, 8)[:-30],
    }  # fmt: skip
    for name, content in pictures.items():
        yield "pictures that say they are enormous, or end early", partial(decode, content, name), name


def _sparse(folder: Path) -> Iterator[Case]:
    """Files of 10 GB that hold nothing and take no room."""
    readers: dict[str, Callable[[Path], Any]] = {
        "w.safetensors": read_checkpoint, "w.pt": read_checkpoint, "s.yaml": load_yaml, "a.json": read_json,
        "a.txt": partial(given, published=()),
    }  # fmt: skip
    for name, reader in readers.items():
        with open(path := folder / name, "wb") as file:
            file.truncate(SPARSE_BYTES)
        yield "a file of 10 GB of nothing as weights, settings and architecture", partial(reader, path), name


def counted(moments: int = 0) -> Iterator[Count]:
    """How many were refused, by case. moments: not used, every case is one file."""
    found: dict[str, list[bool]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case, reading, naming in hostile(Path(folder)):
            found.setdefault(case.split(": YAML")[0], []).append(refused(reading, naming))
    for case, said in found.items():
        yield Count("hostile files", "all papers", case, len(said), sum(said))
