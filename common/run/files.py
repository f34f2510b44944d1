"""Records: JSON and CSV files that are never half-written, locks on files and folders, and what the run stood on."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from filelock import lock_descriptor

from common.errors import UserError
from common.run import outputs

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "tyro", "safetensors", "dvc", "timm")
JSON_BYTES = 2**28
_ROOT = Path(__file__).resolve().parents[2]


_dry = [0]  # more than 0: nothing is written


@contextlib.contextmanager
def nothing_written() -> Iterator[None]:
    """Inside, the writers of this module do nothing: a plan leaves no trace."""
    _dry[0] += 1
    try:
        yield
    finally:
        _dry[0] -= 1


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Replace a file atomically: temporary file beside it, flush, fsync, rename, fsync of the folder.

    A kill or a full disk at any moment leaves either the old file or the new one, and a failure leaves no litter.
    Raises UserError when the disk is full or the folder cannot be written, or the file is somebody else's in a folder
    of this command's outputs (``common.run.outputs``).
    """
    if _dry[0]:
        return
    claim(path)
    _replace(Path(path), content)


def claim(path: Path) -> None:
    """Record a file as ours before it is written. Raises UserError where it is somebody else's."""
    if (holder := outputs.claim(path)) is not None:
        _replace(holder.folder / outputs.RECORD, holder.content())


def write_figure(figure: Any, path: Path, **options: Any) -> None:
    """A matplotlib figure, in the format that the path's suffix names; ``options`` of its ``savefig``."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=Path(path).suffix[1:], **options)
    write_bytes(path, buffer.getvalue())


def _replace(path: Path, content: bytes | memoryview) -> None:
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; what was there before is untouched"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the folder against a second writer until the process ends. Raises UserError when it is held."""

    def busy(holder: str) -> NoReturn:
        raise UserError(f"{folder} is in use by process {holder}; wait for it, stop it, or choose another --out")

    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(folder / ".lock", busy))
        except OSError as error:
            raise UserError(f"cannot use {folder}: {error.strerror or error}; choose another --out") from None
        yield


@contextlib.contextmanager
def held(path: Path, busy: Callable[[str], object], needed: bool = True) -> Iterator[None]:
    """Hold the lock file ``path`` against other processes, and against other holders in this one, on every system.

    The lock ends with the process that holds it; the file stays, for one that is taken away could be locked twice.

    busy: called with the number of the process that holds it ("unknown" where that cannot be read); it raises, or
    returns to wait. needed: False goes on without a lock on a disk that knows none. Raises OSError where the file
    cannot be made, and where a lock is needed on such a disk.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            free = lock_descriptor(handle, blocking=False)
        except OSError:
            if needed:
                raise
        else:
            if not free:
                busy(_holder(handle))
                lock_descriptor(handle)
            if not _is_at(handle, path):  # its holder took the file away meanwhile: the next one to come makes another
                os.close(handle)
                handle = -1
                with held(path, busy, needed):
                    yield
                return
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, f" {os.getpid()}\n".encode())
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(handle: int) -> str:
    """The number that the holder wrote, after the first byte: Windows lets no one else read that one."""
    try:
        os.lseek(handle, 1, os.SEEK_SET)
        return os.read(handle, 32).decode(errors="replace").strip() or "unknown"
    except OSError:
        return "unknown"


def make_folder(path: Path) -> Path:
    """A folder of this command's outputs, made with its parents where it is absent; files of others in it are not
    written over. Raises UserError where it cannot be made."""
    if _dry[0]:
        return Path(path)
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot use {path} as a folder: {error.strerror}; choose another --out") from None
    outputs.own(Path(path))
    return Path(path)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable, where the system lets a folder be opened (Windows does not)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """``write_bytes`` of UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def checked(value: Any, where: str = "record") -> Any:
    """Plain JSON values; TypeError names anything else (NumPy and torch scalars above all), ValueError a NaN or inf."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}; JSON has no such number")
        return value
    if isinstance(value, Mapping):
        return {_key(k, where): checked(v, f"{where}.{k}") for k, v in value.items()}
    if type(value) in (list, tuple) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return [checked(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{where} is a {type(value).__module__}.{type(value).__name__}; convert it to a plain Python value")


def _key(key: Any, where: str) -> str:
    if type(key) not in (str, int, bool):
        raise TypeError(f"{where} has a key of type {type(key).__name__}; use text")
    return str(key)


def write_json(path: Path, obj: Any) -> None:
    """Write JSON atomically, keys sorted, so that equal contents are equal bytes."""
    write_text(Path(path), json.dumps(checked(obj), indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON. Raises UserError when the file is absent, damaged, or larger than any of this suite's (JSON_BYTES)."""
    try:
        if (size := Path(path).stat().st_size) > JSON_BYTES:
            raise UserError(f"{path} has {size / 2**30:.1f} GiB, too much for a file of this suite; check the path")
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no file {path}; check the path") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not readable JSON: {error}; restore it or make it again") from None


def append_csv(path: Path, row: Mapping[str, Any]) -> None:
    """Append one row; the first row of a file fixes its columns. Floats keep all their digits."""
    if _dry[0]:
        return
    path = Path(path)
    claim(path)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            columns = next(csv.reader(file), [])
    except FileNotFoundError:
        columns = []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not columns:
        columns = list(row)
        writer.writerow(columns)
    if set(row) != set(columns):
        raise ValueError(f"{path.name} has columns {columns}, not {list(row)}")
    writer.writerow([_cell(row[column]) for column in columns])
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text.getvalue())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(float(value))
    if hasattr(value, "item"):  # a NumPy or torch scalar
        return repr(value.item())
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value)
    return str(value)


def environment() -> dict[str, Any]:
    """Versions, hardware, code state and command of this process."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    result: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "git": git_state(_ROOT),
        "command": command(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        result["threads"] = torch.get_num_threads()
        result["cuda"] = torch.version.cuda
        if torch.cuda.is_available():
            result["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return result


def command() -> list[str]:
    """The words of this process's command; a package started with ``python -m`` by its name."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py" and program.is_relative_to(_ROOT):
        return ["python", "-m", ".".join(program.parent.relative_to(_ROOT).parts), *sys.argv[1:]]
    return [program.name, *sys.argv[1:]]


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git_state(root: Path) -> dict[str, Any]:
    """Commit of the checkout at ``root`` and whether tracked files were changed; nulls outside a git checkout.

    ``results`` and DVC's lock files do not count: a run and ``dvc repro`` replace them themselves.
    """

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    ours = [":(exclude)results", ":(exclude,glob)**/dvc.lock"]
    status = ask("status", "--porcelain", "--untracked-files=no", "--", *ours)
    return {"commit": ask("rev-parse", "HEAD"), "changed": None if status is None else bool(status)}


def write_env(folder: Path) -> None:
    """``env.json`` in a run's folder."""
    write_json(Path(folder) / "env.json", environment())
