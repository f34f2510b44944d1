"""Device, precision, determinism, peak memory. torch is imported when first needed, so that --help stays instant."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from common.errors import UserError

if TYPE_CHECKING:
    import torch


def pick_device(options: Any = None) -> torch.device:
    """The device of a run: ``options.device`` is auto, cpu or cuda (under torchrun, the GPU of the local rank).

    fp32 means fp32: TF32 stays off unless asked for, and cuDNN does not try out algorithms.
    Raises UserError when CUDA is asked for and absent.
    """
    import torch

    name = getattr(options, "device", "auto") or "auto"
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {name!r}; choose auto, cpu or cuda")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("no CUDA device is usable here; use --device cpu, or install a CUDA build of torch")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise UserError(
            f"process {local} of this machine has no GPU of its own ({torch.cuda.device_count()} found); "
            f"lower --nproc-per-node or use --device cpu"
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


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
