"""What every workload is built from: a device and a size, and pictures of noise.

``python -m tests.benchmarks.workloads.place PAPER WORKLOAD [--small]`` prints the peak resident memory in bytes before
that workload and after two calls of it, in a process of its own, imports included, as the published programs' figures
were taken.
"""

from __future__ import annotations

import importlib
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

Size = TypeVar("Size")
Step = Callable[[], Any]  # one call is what is timed


@dataclass(frozen=True)
class Place:
    """Where and how large: the sizes of the published programs' timings, or the smallest ones, as a test."""

    device: str = "cpu"
    full: bool = True

    def size(self, full: Size, small: Size) -> Size:
        return full if self.full else small

    def pictures(self, images: int, side: int = 32) -> Tensor:
        """[images, 3, side, side], normal noise, channels last."""
        return torch.randn(images, 3, side, side).contiguous(memory_format=torch.channels_last).to(self.device)

    def batch(self, images: int, side: int = 32, classes: int = 10) -> tuple[Tensor, Tensor]:
        """Pictures and labels."""
        return self.pictures(images, side), torch.randint(0, classes, (images,)).to(self.device)


@dataclass(frozen=True)
class Workload:
    """A step of a paper's method. ``make`` builds all that the step needs; its docstring says what it is.

    images: pictures, sequences or architectures that one call of the step goes through at full size, 0 where there are
        none.
    counted: whether torch's counter knows all its operations (it knows no LSTM).
    gpu: whether it has anything to do on a GPU.
    """

    make: Callable[[Place], Step]
    images: int
    counted: bool = True
    gpu: bool = True


class Operators(TorchDispatchMode):
    """Counts the operators of torch that compute something: neither views nor allocations."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not (func.is_view or "empty" in func.name() or "detach" in func.name())
        return func(*args, **(kwargs or {}))


def counts(step: Step) -> tuple[int, int]:
    """(floating-point operations, two a multiply-add, of matrix products and convolutions; operators) of one call."""
    with FlopCounterMode(display=False) as products, Operators() as operators:
        step()
    return int(products.get_total_flops()), operators.count


def main(paper: str, name: str, *flags: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    work = importlib.import_module(f"tests.benchmarks.workloads.{paper}").WORKLOADS[name]
    imported = highest()
    step = work.make(Place(full="--small" not in flags))
    for _ in range(2):  # from the second on gradients and momentum of the one before are there
        step()
    print(imported, highest())


def highest() -> int:
    """Bytes. Linux: of this program alone, which its predecessor's memory does not reach."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
