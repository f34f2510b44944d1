"""Run states on disk: written atomically, hashed, the last two kept; and the states of every random generator."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.run import files as records
from common.run.files import read_json

KEEP = 2
_NAME = re.compile(r"state-(\d{8})\.pt")


class Store:
    """Numbered states in one folder: state-00000007.pt with state-00000007.pt.sha256 beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def numbers(self) -> list[int]:
        """Numbers of the states, oldest first."""
        found = (_NAME.fullmatch(p.name) for p in self.folder.glob("state-*.pt")) if self.folder.is_dir() else ()
        return sorted(int(match[1]) for match in found if match)

    def path(self, number: int) -> Path:
        """File of a state."""
        return self.folder / f"state-{number:08d}.pt"

    def save(self, package: dict[str, Any]) -> Path:
        """Write the next state; older ones than the last two go. Raises UserError when it cannot be written."""
        import torch

        buffer = io.BytesIO()
        torch.save(encode(package), buffer)
        content = buffer.getbuffer()
        numbers = self.numbers()
        newest = numbers[-1] + 1 if numbers else 1
        path = self.path(newest)
        # The hash first: a state without a hash never exists, a hash without its state is ignored.
        try:
            records.write_text(_sidecar(path), hashlib.sha256(content).hexdigest() + "\n")
            records.write_bytes(path, content)
        except UserError:
            with contextlib.suppress(OSError):
                self._remove(newest)
            raise
        for number in numbers[: max(0, len(numbers) + 1 - KEEP)]:
            self._remove(number)
        self._sweep()
        return path

    def load(self) -> dict[str, Any] | None:
        """The newest state that is whole. Raises UserError when there are states and none is."""
        failures = []
        for number in reversed(self.numbers()):
            path = self.path(number)
            try:
                package = _read(path)
            except UserError as error:
                failures.append(str(error))
                continue
            for failure in failures:
                print(f"warning: {failure}; going on from the state before it", file=sys.stderr)
            return package
        if failures:
            raise UserError(f"{failures[0]}, and no older state is whole; start over with --no-resume")
        return None

    def clear(self) -> None:
        """Remove all states."""
        if not self.folder.is_dir():
            return
        for number in self.numbers():
            self._remove(number)
        self._sweep()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _remove(self, number: int) -> None:
        path = self.path(number)
        path.unlink(missing_ok=True)
        _sidecar(path).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Leftovers of killed writers: temporary files, hashes without a state. The lock makes this safe."""
        for path in self.folder.iterdir():
            orphan = path.name.endswith(".sha256") and not path.with_suffix("").exists()
            if orphan or path.name.endswith(".tmp"):
                path.unlink(missing_ok=True)


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _read(path: Path) -> dict[str, Any]:
    """A state whose hash agrees. Raises UserError naming the file and both hashes."""
    import torch

    try:
        content = path.read_bytes()
        expected = _sidecar(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise UserError(f"{path} cannot be checked: {error.strerror} ({Path(error.filename).name})") from None
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UserError(f"{path} is damaged: SHA-256 is {found}, recorded {expected or 'nothing'}")
    try:
        return decode(torch.load(io.BytesIO(content), map_location=_place, weights_only=True))
    except Exception as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None


def _place(storage: Any, location: str) -> Any:
    """CPU tensors stay; those of a GPU go to the present GPU, or to the CPU where there is none."""
    import torch

    if location.startswith("cuda") and torch.cuda.is_available():
        return storage.cuda(torch.cuda.current_device())
    return storage


# -- plain values only, so that loading never runs code ---------------------------------------------------------------

_ARRAY = "__array__"


def encode(value: Any, where: str = "state") -> Any:
    """The value in types that ``weights_only`` loading accepts; TypeError names anything else."""
    import torch

    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, torch.nn.Parameter):
        return value.detach()
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufc":
            raise TypeError(f"{where} is an array of {value.dtype}; store numbers or lists of text")
        contiguous = np.ascontiguousarray(value)
        return {_ARRAY: torch.from_numpy(contiguous.view(np.uint8).reshape(-1).copy()) if contiguous.size else None,
                "dtype": value.dtype.str, "shape": list(value.shape)}  # fmt: skip
    if isinstance(value, Mapping):
        return {_key(k, where): encode(v, f"{where}[{k!r}]") for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(encode(v, f"{where}[{i}]") for i, v in enumerate(value))
    if isinstance(value, list):
        return [encode(v, f"{where}[{i}]") for i, v in enumerate(value)]
    raise TypeError(f"{where} is a {type(value).__module__}.{type(value).__name__}; store plain values and tensors")


def _key(key: Any, where: str) -> Any:
    if isinstance(key, tuple):
        return tuple(_key(k, where) for k in key)
    if isinstance(key, np.integer):
        return int(key)
    if type(key) not in (str, int, float, bool):
        raise TypeError(f"{where} has a key of type {type(key).__name__}; use text or numbers")
    return key


def decode(value: Any) -> Any:
    """What ``encode`` was given (mappings come back as dicts, named tuples as tuples)."""
    if isinstance(value, dict):
        if _ARRAY in value:
            data = value[_ARRAY]
            raw = b"" if data is None else data.cpu().numpy().tobytes()
            return np.frombuffer(raw, dtype=np.dtype(value["dtype"])).reshape(value["shape"]).copy()
        return {k: decode(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(decode(v) for v in value)
    if isinstance(value, list):
        return [decode(v) for v in value]
    return value


def rng() -> dict[str, Any]:
    """States of Python's, NumPy's and torch's global generators, of every GPU too."""
    import torch

    name, keys, position, has_gauss, gauss = np.random.get_state()
    version, words, spare = random.getstate()
    return {
        "python": [version, list(words), spare],
        "numpy": [name, np.asarray(keys), int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": [torch.mps.get_rng_state()] if torch.backends.mps.is_available() else [],
    }


def restore_rng(saved: dict[str, Any]) -> None:
    """Put the generators back."""
    import torch

    version, words, spare = saved["python"]
    random.setstate((version, tuple(words), spare))
    np.random.set_state(tuple(saved["numpy"]))
    torch.set_rng_state(saved["torch"].cpu())
    for state in saved.get("mps", []) if torch.backends.mps.is_available() else []:
        torch.mps.set_rng_state(state.cpu())
    if saved["cuda"] and torch.cuda.is_available():
        if len(saved["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in saved["cuda"]])
        else:
            warnings.warn(
                "another number of GPUs than when the state was saved: their generators start anew", stacklevel=2
            )


UNFINISHED_STATE = "unfinished_state"  # in the identity of a run that looked into another: which state it saw
TRIES = 3  # a state may go while it is read


@dataclass(frozen=True)
class LastState:
    """The newest whole state of an unfinished run.

    kept: what the run keeps, by name. position: the loops it is inside, [name, number] each, outermost first. about,
    places: what the run told of its weights (``run.tells``). identity: its settings.json. fingerprint: the run's.
    digest: which state it is.
    """

    folder: Path
    kept: dict[str, Any]
    position: list[list[Any]]
    about: dict[str, Any]
    places: dict[str, list[str]]
    identity: dict[str, Any]
    fingerprint: str
    digest: str

    @property
    def epochs(self) -> int | None:
        """How many the run has in all, where its settings say it."""
        count = self.identity["settings"].get("epochs")
        return count if isinstance(count, int) else None

    @property
    def stand(self) -> dict[str, Any]:
        """For a result: ``epoch`` counts from 0, as in histories: the last whole one, or the one under way, whose loops
        then stand beside it (``step``: batches done).
        """
        place = {str(name): int(number) for name, number in self.position}
        under_way = {name: number for name, number in place.items() if name != "epoch" and number}
        epoch = place.get("epoch")
        if epoch is None:  # past the last epoch, in another loop
            return {"unfinished": True, "epoch": (self.epochs or 0) - 1, **under_way}
        return {"unfinished": True, "epoch": epoch if under_way else epoch - 1, **under_way}

    def says(self) -> str:
        """One line for the reader."""
        stand = {k: v for k, v in self.stand.items() if k not in ("unfinished", "epoch")}
        inside = "".join(f", {name} {number}" for name, number in stand.items())
        epoch = self.stand["epoch"]
        where = f"after epoch {epoch}" if not stand else f"in epoch {epoch}{inside}"
        where = "before the first epoch" if epoch < 0 else where
        of = f"; the last is {self.epochs - 1}" if self.epochs else ""
        return f"{self.folder} is unfinished: its last state is taken, {where} (epochs count from 0{of})"

    def weights(self, kind: str) -> dict[str, Any]:
        """The state dict of a kind of weights, on the CPU."""
        found: Any = self.kept
        for name in self.places[kind]:
            found = found[name]
        return {name: value.cpu() if hasattr(value, "cpu") else value for name, value in found.items()}


def is_finished(folder: Path) -> bool:
    """Whether a folder's run has ended; so has whatever is no run."""
    return (folder / "finished.json").exists() or not (folder / "settings.json").exists()


def last_state(folder: Path) -> LastState | None:
    """The last state of an unfinished run; None where the folder holds a finished run, or none at all.

    Raises UserError: somebody else's folder, a run that has saved nothing yet, damaged states.
    """
    store = Store(folder / "state")
    for left in reversed(range(TRIES)):
        if is_finished(folder):
            return None
        identity = read_json(folder / "settings.json")
        if not isinstance(identity, Mapping) or not {"paper", "stage", "seed", "settings"} <= set(identity):
            raise UserError(f"{folder / 'settings.json'} is not a run's; give a run's folder, or a file of weights")
        if not store.numbers():
            raise UserError(
                f"{folder} holds no state yet: its run ({identity['paper']} {identity['stage']}) has not saved one; "
                f"look again later, or start it again"
            )
        try:
            package = store.load()
            if package is not None:
                return _of(folder, package, dict(identity))
        except UserError:
            if not left:
                raise
    raise UserError(f"{folder} changes while it is read; try again")


def _of(folder: Path, package: dict[str, Any], identity: dict[str, Any]) -> LastState:
    state = package["state"]
    told = state.get("tells") or {}
    content = repr((package["fingerprint"], state["position"], package["seconds"]))  # seconds differ by save
    return LastState(
        folder, state["kept"], state["position"], told.get("about", {}), told.get("places", {}), identity,
        package["fingerprint"], hashlib.sha256(content.encode()).hexdigest(),
    )  # fmt: skip


def wrong_run(state: LastState, wanted: str) -> UserError:
    """One line for a folder of another kind of run."""
    return UserError(
        f"{state.folder} is an unfinished run of {state.identity['paper']} {state.identity['stage']}; {wanted}"
    )
