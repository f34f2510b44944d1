"""Plain torch kernels that calibrate machines: their times scale figures from another one.

The published programs' times were taken beside the same calls, so the original is timed by these very functions.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from tests.benchmarks.workloads.place import Place, Step, Workload


def times(calls: int, run: Step) -> Step:
    return lambda: [run() for _ in range(calls)][-1]


def large_product(at: Place) -> Step:
    """One product of two 2048 x 2048 matrices: the rate that shares are shares of.

    The original does none; any program's rate on a machine is limited by about this one.
    """
    n = at.size(2048, 64)
    a, b = torch.randn(n, n, device=at.device), torch.randn(n, n, device=at.device)
    return lambda: torch.mm(a, b)


def product(at: Place) -> Step:
    """Ten products of two 1024 x 1024 matrices. The same call in both programs."""
    n = at.size(1024, 64)
    a, b = torch.randn(n, n, device=at.device), torch.randn(n, n, device=at.device)
    return times(10, lambda: torch.mm(a, b))


def sample(at: Place) -> torch.Tensor:
    return torch.randn(at.size(16, 1), 64, 32, 32, device=at.device)


def full_convolution(at: Place) -> Step:
    """Five 3 x 3 convolutions, 64 to 64 channels, 16 x 64 x 32 x 32. The same call in both programs."""
    x, w = sample(at), torch.randn(64, 64, 3, 3, device=at.device)
    return times(5, lambda: functional.conv2d(x, w, padding=1))


def depthwise_convolution(at: Place) -> Step:
    """Five depthwise 5 x 5 convolutions of the same input. The same call in both programs."""
    x, w = sample(at), torch.randn(64, 1, 5, 5, device=at.device)
    return times(5, lambda: functional.conv2d(x, w, padding=2, groups=64))


def max_pool(at: Place) -> Step:
    """Five 3 x 3 max pools of the same input. The same call in both programs."""
    x = sample(at)
    return times(5, lambda: functional.max_pool2d(x, 3, 1, 1))


def average_pool(at: Place) -> Step:
    """Five 3 x 3 average pools of the same input, borders not counted. The same call in both programs."""
    x = sample(at)
    return times(5, lambda: functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False))


def batch_norm(at: Place) -> Step:
    """Five normalisations of the same input by its own statistics. The same call in both programs."""
    x, mean, var = sample(at), torch.zeros(64, device=at.device), torch.ones(64, device=at.device)
    return times(5, lambda: functional.batch_norm(x, mean, var, None, None, True))


WORKLOADS = {
    "large_product": Workload(large_product, 0),
    "product": Workload(product, 0),
    "full_convolution": Workload(full_convolution, 0),
    "depthwise_convolution": Workload(depthwise_convolution, 0),
    "max_pool": Workload(max_pool, 0),
    "average_pool": Workload(average_pool, 0),
    "batch_norm": Workload(batch_norm, 0),
}
