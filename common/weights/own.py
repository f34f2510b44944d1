"""Our own weights: safetensors whose metadata say what network they are of, with a SHA-256 of the content inside."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.run import files as records
from common.run.state import last_state

CONTENT_SHA256 = "content_sha256"  # key in the metadata
HEADER_BYTES = 10**8  # the longest header that the format allows


def own_file(folder: Path, weights: str = "auto") -> Path:
    """The file of weights in the folder of a training that has ended. Raises UserError."""
    raw, file = folder / "weights_raw.safetensors", folder / "weights.safetensors"
    if weights == "raw" and raw.exists():
        file = raw
    if not file.is_file():
        ended = (folder / "finished.json").exists()
        what = "a finished run without trained weights" if ended else "no run of a training"
        raise UserError(f"{folder} holds {what}; give the folder of a training, or a file of weights")
    return file


def is_safetensors(path: Path) -> bool:
    """By name, or by what the file begins with: eight bytes of length, then a JSON header."""
    if path.suffix == ".safetensors":
        return True
    with open(path, "rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] < path.stat().st_size


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, ours or another's. Raises UserError when it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        _check_extent(path)
        tensors = load(path.read_bytes())
        stored = _stored_metadata(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}; make it or get it again") from None
    recorded = stored.pop(CONTENT_SHA256, None)
    if recorded is not None and (found := _content_sha256(tensors, stored)) != recorded:
        raise UserError(
            f"{path} is damaged: SHA-256 of its content is {found}, recorded {recorded}; make it or get it again"
        )
    return tensors


def _check_extent(path: Path) -> None:
    """Whether the header accounts for every byte of the file, asked before its tensors are read. Raises ValueError."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(HEADER_BYTES, size - 8):
            raise ValueError("its header has no length that fits")
        header = json.loads(file.read(length))
    tensors = [v for k, v in header.items() if k != "__metadata__"] if isinstance(header, dict) else [{}]
    end = max((t["data_offsets"][1] for t in tensors), default=0)
    if end != size - 8 - length:
        raise ValueError(f"its header tells of {end} bytes of tensors, it holds {size - 8 - length}")


def _stored_metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def _content_sha256(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of names, types, shapes and bytes of contiguous CPU tensors, and of the metadata, by name."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    for name in sorted(metadata):
        total.update(f"{name}={metadata[name]}\n".encode())
    return total.hexdigest()


def read_metadata(path: Path | str) -> dict[str, Any]:
    """What ``save_weights`` was given as metadata; empty for files without (torch files, others' safetensors).

    Of a run's folder what the file in it says, or its last state while it is unfinished. Raises UserError when the
    file is absent or no whole safetensors file although its name says so.
    """
    from safetensors import SafetensorError

    path = Path(path)
    if path.is_dir():
        if (state := last_state(path)) is not None:
            return dict(state.about)
        path = own_file(path)
    if not path.is_file():
        raise UserError(f"no checkpoint {path}; give the path of an existing file")
    if not is_safetensors(path):
        return {}
    try:
        stored = _stored_metadata(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}; make it or get it again") from None
    if CONTENT_SHA256 not in stored:
        return {}
    try:
        return {name: json.loads(text) for name, text in stored.items() if name != CONTENT_SHA256}
    except (ValueError, RecursionError):
        raise UserError(f"{path} is damaged: its metadata are not JSON; make it or get it again") from None


def strip_prefix(tensors: Mapping[str, Any], *prefixes: str) -> dict[str, Any]:
    """Keys without a leading ``module.`` (DataParallel), or the given prefixes, and without ``_orig_mod.`` anywhere
    (torch.compile, of the whole or of a part)."""
    prefixes = prefixes or ("module.",)
    result = {}
    for key, value in tensors.items():
        key = key.replace("_orig_mod.", "")
        while any(key.startswith(p) for p in prefixes):
            key = next(key.removeprefix(p) for p in prefixes if key.startswith(p))
        result[key] = value
    return result


def save_weights(
    model: nn.Module | Mapping[str, Tensor], path: Path | str, metadata: Mapping[str, Any] | None = None
) -> None:
    """A model's (or mapping's) weights as safetensors, written atomically, with a SHA-256 of the content inside.

    metadata: plain JSON values that say what network this is (``read_metadata`` gives them back): architecture,
    dataset, classes, and whatever building it again takes. Shared tensors are stored once per name. Equal content is
    equal bytes.
    """
    from safetensors.torch import save

    tensors = model.state_dict() if isinstance(model, nn.Module) else model
    plain = {name: v.detach().cpu().contiguous().clone() for name, v in strip_prefix(tensors).items()}
    about = {k: json.dumps(records.checked(v, f"metadata.{k}"), sort_keys=True) for k, v in (metadata or {}).items()}
    records.write_bytes(
        Path(path), _sorted_header(save(plain, {**about, CONTENT_SHA256: _content_sha256(plain, about)}))
    )


def _sorted_header(file: bytes) -> bytes:
    """The library writes metadata in the order of a hash table: sort it, as two runs are byte-equal."""
    (length,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + file[8 + length :]
