"""Reading the pickles in which CIFAR and ImageNet16 are published, without running what a pickle may ask for.

Only what such a file needs is let through: the reconstruction of plain numpy arrays. Any other global is refused.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError

_RECONSTRUCT = {"numpy.core.multiarray", "numpy._core.multiarray"}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _RECONSTRUCT and name == "_reconstruct":
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if module in _RECONSTRUCT and name == "scalar":
            return np._core.multiarray.scalar  # type: ignore[attr-defined]
        if module == "numpy" and name == "ndarray":
            return np.ndarray
        if module == "numpy" and name == "dtype":
            return np.dtype
        if module == "_codecs" and name == "encode":  # how protocol 2 spells bytes
            return _encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a data file has no business with")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("unexpected text encoding")
    return text.encode("latin1")


def load_arrays(path: Path, remedy: str) -> dict[str, Any]:
    """The dictionary in a published data pickle (keys as str; byte strings stay bytes where they are not latin-1 text).

    Raises UserError when the file is no such pickle, is truncated, or asks for anything but arrays.
    """
    try:
        content = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything; every case means the same to the user
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is not a readable data pickle: {reason}; get it with: {remedy}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no dictionary; get it with: {remedy}")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}
