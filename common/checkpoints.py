"""Weights on disk: strict loading that says what does not fit, and never runs pickled code.

Our own weights are safetensors. Authors' files are torch containers, old and new, read with ``weights_only=True`` and a
narrow allow-list of inert stand-ins; what that cannot read goes through the restricted reader of ``common.unpickling``.
"""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common import records, unpickling
from common.errors import UserError
from common.unpickling import Inert, module_tensors

SHOWN_KEYS = 4
CONTENT_SHA256 = "content_sha256"  # key in the metadata of our own safetensors files


def _nothing(*_: Any) -> dict[str, Any]:
    return {}


def _scalar(dtype: np.dtype, raw: bytes) -> int | float:
    if dtype.kind not in "biuf" or len(raw) != dtype.itemsize:
        raise ValueError("a NumPy scalar that is no number")
    return np.frombuffer(raw, dtype=dtype)[0].item()


def _stand_ins() -> list[Any]:
    """Data-only stand-ins for what training scripts put beside weights."""
    kinds = [np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType, np.dtypes.Int32DType]
    return [
        *kinds,
        (np.dtype, "numpy.dtype"),
        (_scalar, "numpy.core.multiarray.scalar"),
        (_scalar, "numpy._core.multiarray.scalar"),
        (unpickling._encode, "_codecs.encode"),
        (Inert, "argparse.Namespace"),
        (_nothing, "collections.defaultdict"),
        (list, "builtins.list"),
        (int, "builtins.int"),
        (float, "builtins.float"),
    ]


def load_tensors(path: Path | str) -> Any:
    """Content of a weights file on the CPU: safetensors, or a torch file in either container.

    Dicts of tensors and plain values; a Namespace or configuration beside them is an ``Inert`` object. Raises UserError
    when the file is absent, truncated, altered (where the file can tell: our own weights and zip containers hold sums
    of their content), or asks for code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint {path}; give the path of an existing file")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty; get the file again from its source")
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    check_zip(path)
    try:
        with torch.serialization.safe_globals(_stand_ins()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:
        return unpickling.read(path)  # knows more stand-ins, or says in one line why the file is refused


def check_zip(path: Path) -> None:
    """Raise UserError where a member of a zip container differs from its CRC-32, which ``torch.load`` never looks at.

    Files that are no zip pass.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise UserError(f"{path} is damaged: {error}; get the file again from its source") from None
    if damaged is not None:
        raise UserError(f"{path} is damaged: {damaged} differs from its CRC-32; get the file again from its source")


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    try:
        tensors = load(path.read_bytes())
        with safe_open(path, "pt") as file:
            recorded = (file.metadata() or {}).get(CONTENT_SHA256)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}; make it or get it again") from None
    if recorded is not None and (found := _content_sha256(tensors)) != recorded:
        raise UserError(
            f"{path} is damaged: SHA-256 of its tensors is {found}, recorded {recorded}; make it or get it again"
        )
    return tensors


def _content_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes of contiguous CPU tensors, by name."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def load_legacy_module(path: Path | str, allowed: set[str]) -> Any:
    """A whole pickled module as nested ``Inert`` objects; ``allowed`` names its classes, e.g. ``model.RNNModel``.

    ``module_tensors`` of the result is its state dict. Raises UserError for any class outside ``allowed``.
    """
    return unpickling.read(Path(path), allowed)


def strip_prefix(tensors: Mapping[str, Any], *prefixes: str) -> dict[str, Any]:
    """Keys without a leading ``module.`` (DataParallel) or ``_orig_mod.`` (torch.compile), or the given prefixes."""
    prefixes = prefixes or ("module.", "_orig_mod.")
    result = {}
    for key, value in tensors.items():
        while any(key.startswith(p) for p in prefixes):
            key = next(key.removeprefix(p) for p in prefixes if key.startswith(p))
        result[key] = value
    return result


def load_strict(
    model: nn.Module,
    tensors: Mapping[str, Any],
    drop: Iterable[str] = ("auxiliary_head.",),
    rename: Callable[[str], str | None] | None = None,
    source: str = "the checkpoint",
) -> None:
    """Load weights into a model; every key of the model must be there with its shape, and nothing else.

    Keys that start with one of ``drop`` may be absent from either side. ``rename`` maps a key of the file to one of the
    model (None: leave it out). A missing ``num_batches_tracked`` (torch < 0.4.1) counts as 0. Raises UserError naming
    missing, unexpected and mis-shaped keys; the model is then untouched.
    """
    drop = tuple(drop)
    given: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = rename(key) if rename else key
        if name is not None and isinstance(value, Tensor):
            given[name] = value
    wanted = model.state_dict()
    for name, value in wanted.items():
        if name not in given and name.endswith("num_batches_tracked"):
            given[name] = torch.zeros_like(value)
    missing = [k for k in wanted if k not in given and not k.startswith(drop)]
    unexpected = [k for k in given if k not in wanted and not k.startswith(drop)]
    shapes = [
        f"{k} {list(given[k].shape)} instead of {list(wanted[k].shape)}"
        for k in wanted
        if k in given and given[k].shape != wanted[k].shape
    ]
    faults = [
        f"{len(keys)} {what} ({', '.join(keys[:SHOWN_KEYS])}{', …' if len(keys) > SHOWN_KEYS else ''})"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    if faults:
        raise UserError(f"{source} does not fit this architecture: {'; '.join(faults)}; name the architecture it is of")
    model.load_state_dict({k: given.get(k, v) for k, v in wanted.items()})


def save_weights(model: nn.Module | Mapping[str, Tensor], path: Path | str) -> None:
    """A model's (or mapping's) weights as safetensors, written atomically, with a SHA-256 of the content inside.

    Shared tensors are stored once per name.
    """
    from safetensors.torch import save

    tensors = model.state_dict() if isinstance(model, nn.Module) else model
    plain = {strip: v.detach().cpu().contiguous().clone() for strip, v in strip_prefix(tensors).items()}
    records.write_bytes(Path(path), save(plain, {CONTENT_SHA256: _content_sha256(plain)}))


__all__ = [
    "Inert",
    "check_zip",
    "load_legacy_module",
    "load_strict",
    "load_tensors",
    "module_tensors",
    "save_weights",
    "strip_prefix",
]
