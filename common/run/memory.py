"""How much memory a step takes, and how much there is: of the GPU's allocator, or resident in this process."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

SHARE = 0.25  # of what is free in this machine, that a rehearsal may take; of a GPU's memory 0.8
GPU_SHARE = 0.8


class Memory:
    """Peak of the steps so far, scaled to whole batches: ``peak`` in bytes."""

    def __init__(self) -> None:
        self.device: Any = None
        self.peak, self.before, self.grown = 0.0, 0.0, 0.0

    def place(self, options: Any) -> None:
        """Where the run computes."""
        from common.run.device import pick_device

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
    from common.run.device import peak_memory_bytes

    return float(peak_memory_bytes())
