"""Weights on disk: strict loading that says what does not fit, and never runs pickled code.

Our own weights are safetensors (``own.py``). Authors' files are torch containers, old and new, read with
``weights_only=True`` and a narrow allow-list of inert stand-ins; what that cannot read goes through the restricted
reader of ``unpickle.py``. ``read_checkpoint`` finds the weights in any of the usual containers.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import UserError
from common.run.device import available
from common.run.state import UNFINISHED_STATE, LastState, last_state, wrong_run
from common.weights import unpickle as unpickling
from common.weights.own import is_safetensors, load_safetensors, own_file, read_metadata, save_weights, strip_prefix
from common.weights.unpickle import Inert, module_tensors

SHOWN_KEYS = 4
UNPACKED_TIMES = 100  # how many times its size a zip container may unpack to; torch's own are not packed at all
SMALL_BYTES = 2**24  # a tensor up to here may say its storage several times over
RAW_KEYS = ("state_dict", "model", "net", "model_state_dict")
EMA_KEYS = ("state_dict_ema", "ema", "model_ema", "ema_state_dict", "model_ema_state_dict")
INNER_KEYS = ("module", "shadow")  # where an average keeps its weights, inside a container of the above


def _nothing(*_: Any) -> dict[str, Any]:
    return {}


def _stand_ins() -> list[Any]:
    """Data-only stand-ins for what training scripts put beside weights."""
    words = ("Float64", "Float32", "Float16", "Int64", "Int32", "Int16", "Int8", "UInt8", "Bool")
    return [
        *(getattr(np.dtypes, f"{word}DType") for word in words),
        (np.dtype, "numpy.dtype"),
        (unpickling.numpy_scalar, "numpy.core.multiarray.scalar"),
        (unpickling.numpy_scalar, "numpy._core.multiarray.scalar"),
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
    if path.stat().st_size > available():
        raise UserError(
            f"{path} has {path.stat().st_size / 2**30:.1f} GiB, more than this machine's free memory; it is no file of "
            f"weights for it"
        )
    if is_safetensors(path):
        return load_safetensors(path)
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
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > UNPACKED_TIMES * path.stat().st_size:
                raise UserError(
                    f"{path} would unpack to {unpacked / 2**30:.1f} GiB, more than {UNPACKED_TIMES} times its size: it "
                    f"is no file of weights"
                )
            damaged = archive.testzip()
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a damaged list of members raises nearly anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} is damaged: {reason}; get the file again from its source") from None
    if damaged is not None:
        raise UserError(f"{path} is damaged: {damaged} differs from its CRC-32; get the file again from its source")


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a file, and what it was.

    tensors: state dict, wrappers' prefixes taken off. container: where in the file they stood ("" for a bare state
    dict). weights: "ema" or "raw", "" where the file does not say. both: whether it holds EMA and raw weights. beside:
    the other entries of the container (zero-dimensional tensors as numbers). metadata: of our own files. source: the
    file's name and the place inside, for messages. Of an unfinished run's folder: stand, ``unfinished`` and the
    ``epoch`` for the result; identity, which state it was, as ``open_run`` takes it.
    """

    tensors: dict[str, Tensor]
    container: str
    weights: str
    both: bool
    beside: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    source: str = "the checkpoint"
    stand: dict[str, Any] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)

    @property
    def epoch(self) -> int | None:
        """The epoch that the container states."""
        epoch = self.beside.get("epoch")
        return epoch if isinstance(epoch, int) and not isinstance(epoch, bool) else None


def read_checkpoint(path: Path | str, weights: str = "auto", classes: Iterable[str] = ()) -> Checkpoint:
    """The weights of any file: bare, or under one of RAW_KEYS or EMA_KEYS, nested or not, or the only ones in it; of a
    run's folder, those that it wrote, or those of its last state while it is unfinished.

    weights: "ema", "raw", or "auto": the average where the file holds one (published numbers of those who keep an
    average are the average's); where it holds both the choice is said. classes: names of pickled classes, such as
    "model.RNNModel", of which whole modules are accepted. Raises UserError: no weights, not the wanted ones, two
    entries that differ in prefixes only, and everything ``load_tensors`` refuses.
    """
    from common.run.folder import say

    path, content = Path(path), None
    if weights not in ("auto", "ema", "raw"):
        raise UserError(f"--weights cannot be {weights!r} (one of auto, ema, raw)")
    if path.is_dir():
        if (unfinished := last_state(path)) is not None:
            return _of_state(unfinished, weights)
        path = own_file(path, weights)
    try:
        content = load_tensors(path)
    except UserError:
        if not classes or not path.is_file() or is_safetensors(path):
            raise
        content = load_legacy_module(path, set(classes))
    metadata = read_metadata(path)
    found = list(_candidates(content))
    if not found and isinstance(tensors := _tensors(content), dict):
        found = [("", str(metadata.get("weights", "")), tensors)]
    found = found or _under_another_name(content)
    if not found:
        holds = f"it holds {', '.join(map(str, content))[:200]}" if isinstance(content, Mapping) and content else ""
        raise UserError(f"{path} holds no weights: {holds or 'it is empty'}; give a state dict, bare or under "
                        f"{', '.join((*RAW_KEYS, *EMA_KEYS[:2]))}")  # fmt: skip
    kinds = {kind for _, kind, _ in found}
    wanted = ("ema" if "ema" in kinds else found[0][1]) if weights == "auto" else weights
    chosen = next((entry for entry in found if entry[1] == wanted), None)
    if chosen is None:
        said = " and ".join(sorted(kind for kind in kinds if kind)) or "unnamed"
        raise UserError(f"--weights {weights}: {path} holds {said} weights only; leave the flag out to take them")
    place, kind, state = chosen
    both = {"ema", "raw"} <= kinds
    if both and weights == "auto":
        say(
            f"{path.name} holds averaged and raw weights: the average is taken ({place}); --weights raw (evaluate, "
            f"predict, export) takes the other"
        )
    plain, own = {}, {k: v for k, v in state.items() if isinstance(v, Tensor)}
    if isinstance(content, Mapping):
        plain = {str(k): _number(v) for k, v in content.items() if k not in own or place}
        for inner, _, _ in found:
            plain.pop(inner.partition(".")[0], None)
    plain |= {k: _number(v) for k, v in state.items() if not isinstance(v, Tensor)}
    if "n_averaged" in own and all(k == "n_averaged" or k.startswith("module.") for k in own):
        plain["n_averaged"] = _number(own.pop("n_averaged"))  # of torch's AveragedModel
    check_tensors(own, str(path))
    tensors = strip_prefix(own)
    if len(tensors) != len(own):
        raise UserError(f"{path} holds entries that differ in module. or _orig_mod. only; give a file of one network")
    source = path.name + (f" ({place})" if place else "")
    return Checkpoint(tensors, place, kind, both, plain, metadata, source)


def _of_state(state: LastState, weights: str) -> Checkpoint:
    """The weights of an unfinished run. Raises UserError where its states hold none of the kind."""
    from common.run.folder import say

    kinds = tuple(state.places)
    kind = ("ema" if "ema" in kinds else "raw") if weights == "auto" else weights
    if not kinds:
        raise wrong_run(state, "its states hold no trained network; give the folder of a training")
    if kind not in kinds:
        raise UserError(f"--weights {weights}: {state.folder} holds {' and '.join(kinds)} weights only; leave it out")
    say(state.says())
    tensors = strip_prefix({k: v for k, v in state.weights(kind).items() if isinstance(v, Tensor)})
    metadata = {**state.about, **({"weights": kind} if len(kinds) > 1 else {})}
    source, both = f"{state.folder} (unfinished)", len(kinds) > 1
    return Checkpoint(tensors, "state", kind, both, {}, metadata, source, state.stand, {UNFINISHED_STATE: state.digest})


def _candidates(content: Any, place: str = "", kind: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(place, "raw" or "ema", state dict) of every set of weights under a known key, nested ones too."""
    if not isinstance(content, Mapping):
        return
    for keys, own in ((RAW_KEYS, "raw"), (EMA_KEYS, "ema"), (INNER_KEYS if place else (), "raw")):
        for key in keys:
            value = content.get(key)
            inner = "ema" if "ema" in (kind, own) else own
            path = f"{place}.{key}" if place else key
            deeper = list(_candidates(value, path, inner))
            if deeper:
                yield from deeper
            elif isinstance(state := _tensors(value), dict):
                yield path, inner, state


def _under_another_name(content: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """The weights of a file that calls its container otherwise, where it holds only one that can be meant."""
    if not isinstance(content, Mapping):
        return []
    inside = {str(key): list(_candidates(value, str(key))) for key, value in content.items()}
    if several := [found for found in inside.values() if found]:
        return several[0] if len(several) == 1 else []
    states = [(str(key), "raw", state) for key, value in content.items() if (state := _tensors(value))]
    return states if len(states) == 1 else []


def _tensors(value: Any) -> dict[str, Any] | None:
    """A state dict: a mapping by text with a tensor in it, or a whole module read as data."""
    if isinstance(value, Inert) and hasattr(value, "_modules"):
        value = module_tensors(value)
    if not isinstance(value, Mapping) or not any(isinstance(v, Tensor) for v in value.values()):
        return None
    return dict(value) if all(isinstance(key, str) for key in value) else None


def _number(value: Any) -> Any:
    plain = isinstance(value, Tensor) and value.ndim == 0 and value.device.type != "meta" and not value.is_quantized
    return value.item() if plain else value


def check_tensors(tensors: Mapping[str, Tensor], source: str) -> None:
    """Weights are dense tensors of real, finite numbers. Raises UserError naming the first that is something else."""
    for name, value in tensors.items():
        kind = ""
        if value.device.type == "meta":
            kind = "has no values (a meta tensor)"
        elif value.is_quantized:
            kind = f"is quantised ({value.dtype})"
        elif value.layout != torch.strided:
            kind = f"is sparse ({value.layout})"
        elif value.is_nested or value.is_complex():
            kind = f"holds {'nested tensors' if value.is_nested else 'complex numbers'}"
        elif value.numel() * value.element_size() > max(value.untyped_storage().nbytes(), SMALL_BYTES):
            kind = f"has the shape {list(value.shape)}, more than the file holds"
        elif value.is_floating_point() and value.element_size() > 1 and not bool(torch.isfinite(value).all()):
            kind = "holds a number that is not finite"
        if kind:
            raise UserError(f"{source}: {name} {kind}; give a file of plain trained weights")


def load_legacy_module(path: Path | str, allowed: set[str]) -> Any:
    """A whole pickled module as nested ``Inert`` objects; ``allowed`` names its classes, e.g. ``model.RNNModel``.

    ``module_tensors`` of the result is its state dict. Raises UserError for any class outside ``allowed``.
    """
    return unpickling.read(Path(path), allowed)


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
    types = [
        f"{k} {given[k].dtype} instead of {wanted[k].dtype}".replace("torch.", "")
        for k in wanted
        if k in given
        and given[k].is_floating_point() != wanted[k].is_floating_point()
        and not k.endswith("num_batches_tracked")
    ]
    faults = [
        f"{len(keys)} {what} ({', '.join(keys[:SHOWN_KEYS])}{', …' if len(keys) > SHOWN_KEYS else ''})"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes),
                           ("of another type", types))
        if keys
    ]  # fmt: skip
    if faults:
        raise UserError(f"{source} does not fit this architecture: {'; '.join(faults)}; name the architecture it is of")
    model.load_state_dict({k: given.get(k, v) for k, v in wanted.items()})


__all__ = [
    "Checkpoint",
    "Inert",
    "check_zip",
    "load_legacy_module",
    "load_strict",
    "load_tensors",
    "module_tensors",
    "read_checkpoint",
    "read_metadata",
    "save_weights",
    "strip_prefix",
]
