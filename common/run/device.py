"""Device, precision, determinism, peak memory. torch is imported when first needed, so that --help stays instant."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from common.outside import of_environment
from common.run import distributed
from common.words import suggestion

if TYPE_CHECKING:
    import torch

KNOWN = ("auto", "cpu", "cuda", "cuda:N", "mps")
NAMES = re.compile(r"auto|cpu|cuda(:\d+)?|mps")


def check_name(name: str) -> None:
    """Raises UserError for anything but auto, cpu, cuda, cuda:N and mps."""
    if not NAMES.fullmatch(name):
        raise UserError(f"--device cannot be {name!r}{suggestion(name, KNOWN)} (one of {', '.join(KNOWN)})")


def pick_device(options: Any = None) -> torch.device:
    """The device of a run (see ``_picked``). Raises UserError, under ``--compile`` where nothing can compile for it."""
    device = _picked(getattr(options, "device", "auto") or "auto")
    if getattr(options, "compile", False):
        check_compiler(device)
    return device


def _picked(name: str) -> torch.device:
    """The device of a name: auto (a CUDA GPU where there is one), cpu, cuda (under torchrun, the GPU of the local
    rank), cuda:N or mps (the GPU of a Mac).

    fp32 means fp32: TF32 stays off unless asked for, and cuDNN does not try out algorithms. Raises UserError when the
    device is absent, and for one GPU that several processes would share.
    """
    import torch

    check_name(name)
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("no MPS device (the GPU of a Mac) is usable here; use --device cpu")
        return torch.device("mps")
    if not torch.cuda.is_available():
        raise UserError("no CUDA device is usable here; use --device cpu, or install a CUDA build of torch")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    device = torch.device("cuda", _number(name, torch.cuda.device_count()))
    torch.cuda.set_device(device)
    return device


def check_compiler(device: torch.device) -> None:
    """Raises UserError where nothing here can compile for the device."""
    if device.type == "cpu":
        raise UserError(
            "--compile is for GPUs: on a CPU the backward passes that torch 2.13's compiler makes of these networks "
            "abort the program; leave --compile out"
        )
    if device.type != "cuda":
        raise UserError(f"--compile is for GPUs of kind cuda, not for {device.type}; leave --compile out")
    if importlib.util.find_spec("triton") is None:
        raise UserError("--compile needs the package triton; install it, or leave --compile out")


def _number(name: str, found: int) -> int:
    """The number of the GPU that ``cuda`` or ``cuda:N`` means to this process, of ``found`` ones. Raises UserError."""
    number, local = name.partition(":")[2], of_environment("LOCAL_RANK", 0)
    if number and distributed.world_size() > 1:
        raise UserError(f"several processes take a GPU each, --device {name} is one of them; use --device cuda")
    if number and int(number) >= found:
        raise UserError(f"--device {name}: {found} GPU(s) found, numbered from 0; use a lower number or --device cuda")
    if local >= found:
        raise UserError(
            f"process {local} of this machine has no GPU of its own ({found} found); "
            f"lower --nproc-per-node or use --device cpu"
        )
    return int(number or local)


def onto(device: torch.device | str, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the CPU on the device; a GPU takes it when it comes to it, and nothing waits for it here."""
    if str(device).startswith("cuda"):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def exact(device: torch.device | str) -> torch.dtype:
    """The type that sums of many numbers have on a device: float64, or float32 on MPS, which knows no other."""
    import torch

    return torch.float32 if torch.device(device).type == "mps" else torch.float64


def device_name(options: Any) -> str:
    """The device of a run as people call it: the CPU with its threads, or the GPU's name."""
    torch = sys.modules.get("torch")
    if torch is None:
        return "CPU"
    device = pick_device(options)
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    threads = torch.get_num_threads()
    return f"CPU with {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else device.type.upper()


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """bf16 autocast, or nothing for fp32."""
    import torch

    if precision == "fp32":
        return contextlib.nullcontext()
    if precision == "bf16":
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
    raise UserError(f"unknown precision {precision!r}; choose fp32 or bf16")


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Only deterministic kernels inside (an operation without one raises)."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark


def peak_memory_bytes(device: torch.device | None = None) -> int:
    """Most memory held so far: of the GPU's allocator, or resident in this process (0 if the system does not say)."""
    import torch

    if device is not None and torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


def peaks() -> dict[str, int]:
    """Most memory held so far in bytes: resident, and on the GPU where one was used."""
    memory, torch = {"resident": peak_memory_bytes()}, sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        memory["gpu"] = peak_memory_bytes(torch.device("cuda", torch.cuda.current_device()))
    return memory


SHARE = 0.25  # of what is free in this machine, that a rehearsal may take; of a GPU's memory 0.8
GPU_SHARE = 0.8


class Memory:
    """Peak of the steps so far, scaled to whole batches: ``peak`` in bytes."""

    def __init__(self) -> None:
        self.device: Any = None
        self.peak, self.before, self.grown = 0.0, 0.0, 0.0

    def place(self, options: Any) -> None:
        """Where the run computes."""
        self.device = pick_device(options)

    def begins(self) -> None:
        """A step begins."""
        if self._gpu():
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = float(torch.cuda.memory_allocated(self.device))
            return
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now on
        self.before = _status("VmRSS")

    def ends(self, scale: float) -> None:
        """A step with one part in ``scale`` of the images has ended."""
        now = self._highest()
        self.grown = max(0.0, now - self.before)
        self.peak = max(self.peak, self.before + self.grown * scale, now)

    def room(self) -> float:
        """How many times the last step's images there is memory for."""
        if self._gpu():
            import torch

            free = torch.cuda.mem_get_info(self.device)[0] * GPU_SHARE
        else:
            free = available() * SHARE
        return free / max(self.grown, 1.0)

    def _highest(self) -> float:
        if self._gpu():
            import torch

            return float(torch.cuda.max_memory_allocated(self.device))
        return _status("VmHWM")

    def _gpu(self) -> bool:
        return self.device is not None and self.device.type == "cuda"


def available() -> float:
    """Bytes of this machine's memory that are free to be used."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable"):
                return float(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) / 2
    return 4.0 * 2**30


def _status(name: str) -> float:
    """A line of /proc/self/status in bytes; elsewhere the peak of the process."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(name):
                return float(line.split()[1]) * 1024
    return float(peak_memory_bytes())
