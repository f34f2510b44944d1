"""Reading torch files without running what a pickle may ask for: every class becomes an inert stand-in, or is refused.

For what ``torch.load(weights_only=True)`` cannot read: whole pickled modules of the authors (the NSAS recurrent
network), configuration objects beside the weights. No code of theirs is imported; an object is only its class name and
its data.
Both containers are read: torch's zip files and the older stream of pickles followed by raw storages.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
MAX_ELEMENTS = 2**36
DTYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
# Classes whose data may stand beside weights: they become inert in any file.
INERT = frozenset({"argparse.Namespace", "yacs.config.CfgNode", "pathlib.PosixPath", "pathlib.Path",
                   "pathlib.PurePosixPath", "lib.config.CfgNode", "addict.addict.Dict"})  # fmt: skip


class Refused(pickle.UnpicklingError):
    """A pickle asked for something outside the allow-list."""


class Inert:
    """An object of a class that is not imported: ``class_name``, constructor arguments, attributes, items."""

    class_name = ""
    arguments: tuple[Any, ...]
    items: dict[Any, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        self = object.__new__(cls)
        self.arguments = args
        self.items = {}
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2:
            state = {**(state[0] or {}), **(state[1] or {})}
        if isinstance(state, dict):
            for key, value in state.items():
                if isinstance(key, str) and not key.startswith("__"):
                    object.__setattr__(self, key, value)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def __repr__(self) -> str:
        return f"<{self.class_name} as data>"

    def plain(self) -> dict[str, Any]:
        """Attributes and items."""
        own = {k: v for k, v in vars(self).items() if k not in ("arguments", "items")}
        return {**own, **{str(k): v for k, v in self.items.items()}}


def _inert(class_name: str) -> type[Inert]:
    return type("Inert", (Inert,), {"class_name": class_name})


class _Storage:
    """Raw bytes of a storage, filled in after the pickle in the older container."""

    def __init__(self, dtype: torch.dtype, elements: int) -> None:
        if not 0 <= elements <= MAX_ELEMENTS:
            raise Refused(f"a storage of {elements} elements")
        self.dtype, self.elements = dtype, elements
        self.data: Tensor | None = None


class _Pending:
    """A tensor whose storage may not have been read yet."""

    def __init__(self, storage: _Storage, offset: int, size: Any, stride: Any) -> None:
        self.storage, self.offset = storage, int(offset)
        self.size, self.stride = tuple(map(int, size)), tuple(map(int, stride))
        reach = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride)) if 0 not in self.size else 0
        if min((self.offset, *self.size, *self.stride), default=0) < 0 or reach >= max(storage.elements, 1):
            raise Refused("a tensor that reaches outside its storage")

    def __setstate__(self, state: Any) -> None:
        """What torch 0.3 kept beside a parameter's data is of no use."""

    def tensor(self) -> Tensor:
        assert self.storage.data is not None
        return self.storage.data.as_strided(self.size, self.stride, self.offset)


def _rebuild(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Pending:
    if not isinstance(storage, _Storage):
        raise Refused("a tensor without a storage")
    return _Pending(storage, offset, size, stride)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise Refused("an unexpected text encoding")
    return text.encode("latin1")


class _NumpyType:
    """A NumPy dtype as data: a code such as "f8", and the byte order from its pickled state."""

    def __init__(self, code: str, *_: Any) -> None:
        self.dtype = np.dtype(str(code))

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def numpy_scalar(dtype: Any, raw: Any = b"") -> int | float | bool:
    """A pickled NumPy number as a Python one."""
    dtype = dtype.dtype if isinstance(dtype, _NumpyType) else dtype
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biuf" or len(raw) != dtype.itemsize:
        raise Refused("a NumPy scalar that is no number")
    return np.frombuffer(raw, dtype=dtype)[0].item()


class _NumpyArray:
    """A pickled NumPy array of numbers; becomes the array when its data have arrived."""

    def __init__(self, *_: Any) -> None:
        self.array = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, raw = state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(kind, _NumpyType) or kind.dtype.kind not in "biuf" or not isinstance(raw, bytes):
            raise Refused("a NumPy array of other things than numbers")
        self.array = np.frombuffer(raw, dtype=kind.dtype).reshape(shape, order="F" if by_columns else "C")


_NUMPY = {
    f"{module}.{name}": stand_in
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name, stand_in in (("scalar", numpy_scalar), ("_reconstruct", _NumpyArray))
}
_SAFE: dict[str, Any] = {
    **_NUMPY, "numpy.dtype": _NumpyType, "numpy.ndarray": None,
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": lambda *_: {},
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch.nn.parameter.Parameter": lambda data=None, *_: data,
    "torch.nn.backends.thnn._get_thnn_function_backend": lambda *_: None,  # an attribute of modules before torch 1.3
    "torch.Size": lambda values=(): tuple(values),
    "torch.device": lambda *words: ":".join(map(str, words)),
    "_codecs.encode": _encode,
    "builtins.set": set, "__builtin__.set": set,
    "builtins.list": list, "__builtin__.list": list, "builtins.dict": dict, "__builtin__.dict": dict,
    "builtins.int": int, "__builtin__.int": int, "builtins.float": float, "__builtin__.float": float,
}  # fmt: skip


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickles plain containers and tensors; other classes become ``Inert`` when allowed and are refused otherwise."""

    def __init__(self, file: Any, allowed: Iterable[str], storage: Callable[[tuple[Any, ...]], Any]) -> None:
        super().__init__(file, encoding="latin1")
        self.allowed = set(allowed) | INERT
        self.storage = storage
        self.classes: dict[str, type[Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _SAFE:
            return _SAFE[full]
        if module in ("torch", "torch.storage", "torch.cuda") and name in DTYPES:
            return DTYPES[name]
        if full in self.allowed or module.startswith("torch.nn.modules."):
            return self.classes.setdefault(full, _inert(full))
        raise Refused(f"it asks for {full}, which is not on the allow-list")

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or not pid:
            raise Refused("an unknown kind of reference")
        if pid[0] == "module":  # (class, source file, source): the source is never looked at
            return pid[1]
        if pid[0] == "storage":
            return self.storage(pid[1:])
        raise Refused(f"a reference to {pid[0]!r}")


def read(path: Path, allowed: Iterable[str] = ()) -> Any:
    """The content of a torch file as tensors, plain containers and ``Inert`` objects.

    Raises UserError when the file is absent, damaged, or asks for anything outside the allow-list.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(path):
                return _read_zip(path, allowed)
            return _read_stream(file, allowed)
    except FileNotFoundError:
        raise UserError(f"no file {path}; check the path") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read safely: {reason}; get the file again from its source") from None


def _read_stream(file: Any, allowed: Iterable[str]) -> Any:
    """Magic number, protocol, system, the object, the storage keys, then (elements int64, raw bytes) per storage."""
    storages: dict[str, _Storage] = {}

    def storage(data: tuple[Any, ...]) -> _Storage:
        dtype, key, _, elements = data[:4]
        made = storages.setdefault(str(key), _Storage(_dtype(dtype), int(elements)))
        if len(data) > 4 and data[4] is not None:
            raise Refused("a view of a storage")
        return made

    def part() -> Any:
        return RestrictedUnpickler(file, allowed, storage).load()

    if part() != LEGACY_MAGIC:
        raise Refused("it is not a torch file")
    part(), part()
    content, keys = part(), part()
    for key in keys:
        place = storages[str(key)]
        (elements,) = struct.unpack("<q", file.read(8))
        if elements != place.elements:
            raise Refused(f"storage {key} has {elements} elements, announced {place.elements}")
        place.data = _from_bytes(file.read(elements * place.dtype.itemsize), place)
    return _resolve(content, {})


def _read_zip(path: Path, allowed: Iterable[str]) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if n.endswith("/data.pkl")]
        if len(names) != 1:
            raise Refused("it is not a torch file")
        prefix = names[0].removesuffix("data.pkl")
        storages: dict[str, _Storage] = {}

        def storage(data: tuple[Any, ...]) -> _Storage:
            dtype, key, _, elements = data[:4]
            if str(key) not in storages:
                made = storages[str(key)] = _Storage(_dtype(dtype), int(elements))
                made.data = _from_bytes(archive.read(f"{prefix}data/{key}"), made)
            return storages[str(key)]

        content = RestrictedUnpickler(io.BytesIO(archive.read(names[0])), allowed, storage).load()
    return _resolve(content, {})


def _dtype(value: Any) -> torch.dtype:
    if not isinstance(value, torch.dtype):
        raise Refused("a storage of unknown type")
    return value


def _from_bytes(raw: bytes, storage: _Storage) -> Tensor:
    if len(raw) != storage.elements * storage.dtype.itemsize:
        raise Refused("a storage that is cut short")
    if not raw:
        return torch.empty(0, dtype=storage.dtype)
    return torch.frombuffer(bytearray(raw), dtype=storage.dtype)


def _resolve(value: Any, seen: dict[int, Any]) -> Any:
    """Pending tensors become tensors, in place inside containers and objects."""
    if isinstance(value, _NumpyArray):
        return value.array
    if isinstance(value, _Pending):
        return seen.setdefault(id(value), value.tensor())
    if id(value) in seen:
        return value
    if isinstance(value, dict):
        seen[id(value)] = value
        for key in list(value):
            value[key] = _resolve(value[key], seen)
    elif isinstance(value, list):
        seen[id(value)] = value
        value[:] = [_resolve(v, seen) for v in value]
    elif isinstance(value, tuple):
        return tuple(_resolve(v, seen) for v in value)
    elif isinstance(value, Inert):
        seen[id(value)] = value
        for key, item in list(vars(value).items()):
            object.__setattr__(value, key, _resolve(item, seen))
    return value


def module_tensors(module: Inert, prefix: str = "") -> dict[str, Tensor]:
    """State dict of a whole pickled module: its ``_parameters``, ``_buffers`` and, recursively, ``_modules``."""
    found: dict[str, Tensor] = {}
    for kind in ("_parameters", "_buffers"):
        for name, value in (getattr(module, kind, None) or {}).items():
            if isinstance(value, Tensor):
                found[prefix + name] = value
    for name, child in (getattr(module, "_modules", None) or {}).items():
        if isinstance(child, Inert):
            found.update(module_tensors(child, f"{prefix}{name}."))
    return found
