"""Every workload of the five papers, on one CPU thread and, where there is one, on a GPU.

    make bench                                             # all, and the growth of costs; written to results/benchmarks
    python -m pytest tests/benchmarks/test_workloads.py --benchmark-enable -k evnas

Without ``--benchmark-enable`` each runs once at its smallest size, as a test. CPU times are process seconds, so that
other programs on the machine do not count.
"""

from __future__ import annotations

import gc
import inspect
import math
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.benchmarks.workloads import cream, evnas, kernels, nao_v2, nsas, sgnas
from tests.benchmarks.workloads.place import Place, Step, Workload, counts

ROOT = Path(__file__).resolve().parents[2]
MODULES: dict[str, ModuleType] = {
    "kernels": kernels, "cream": cream, "evnas": evnas, "nao_v2": nao_v2, "nsas": nsas, "sgnas": sgnas
}  # fmt: skip
ALL = [(paper, name) for paper, module in MODULES.items() for name in module.WORKLOADS]
SECONDS, FEWEST, MOST = 1.0, 5, 30  # of one workload's rounds

ON_CPU = pytest.param("cpu", marks=pytest.mark.benchmark(timer=time.process_time))
ON_GPU = pytest.param("cuda", marks=[pytest.mark.benchmark(timer=time.perf_counter), pytest.mark.gpu])


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Every test here."""
    torch.manual_seed(0)


@pytest.mark.parametrize("device", [ON_CPU, ON_GPU])
@pytest.mark.parametrize("paper, name", ALL)
def test_workload(benchmark: Any, paper: str, name: str, device: str) -> None:
    work: Workload = MODULES[paper].WORKLOADS[name]
    if device == "cuda" and not (work.gpu and torch.cuda.is_available()):
        pytest.skip("not run: no GPU" if work.gpu else "not run: nothing to do on a GPU")
    full = benchmark.enabled
    step = finished(work.make(Place(device, full)), device)
    if not full:
        benchmark(step)
        return
    about = " ".join(inspect.getdoc(work.make).split("\n\n")[0].split())
    benchmark.extra_info.update(paper=paper, workload=name, device=device, images=work.images, about=about)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    timed(benchmark, step)
    flops, operators = counts(step)
    benchmark.extra_info.update(flops=flops if work.counted else None, operators=operators)
    if paper != "kernels":
        memory = torch.cuda.max_memory_allocated() if device == "cuda" else peak(paper, name)[1]
        benchmark.extra_info["peak_bytes"] = memory
    del step
    gc.collect()


def finished(step: Step, device: str) -> Step:
    """``step`` until the device has done it."""
    if device != "cuda":
        return step

    def run() -> Any:
        value = step()
        torch.cuda.synchronize()
        return value

    return run


def timed(benchmark: Any, step: Step) -> None:
    """Rounds of about a second together, five at least, after two to warm up."""
    step()
    start = time.perf_counter()
    step()
    once = time.perf_counter() - start
    benchmark.pedantic(step, rounds=max(FEWEST, min(MOST, int(SECONDS / max(once, 1e-9)))))


def peak(paper: str, name: str, *flags: str) -> tuple[int, int]:
    """Bytes in memory at the most, after the imports and after two calls, in a process of its own."""
    words = [sys.executable, "-m", "tests.benchmarks.workloads.place", paper, name, *flags]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    imported, highest = map(int, done.stdout.split())
    return imported, highest


def test_peak_memory_is_of_the_workload() -> None:
    """The process says what it took before and after; the large product needs three matrices of 16 MiB."""
    imported, highest = peak("kernels", "large_product")
    assert 48 * 2**20 < highest - imported < 400 * 2**20


def test_operations_are_counted() -> None:
    assert counts(kernels.large_product(Place(full=False))) == (2 * 64**3, 1)
    x = torch.randn(4, 4, requires_grad=True)
    assert counts(lambda: (x @ x).t().sum().backward())[0] == 3 * 2 * 4**3


@pytest.mark.parametrize("paper, name", ALL)
def test_docstrings_say_how_the_original_is_timed(paper: str, name: str) -> None:
    said = inspect.getdoc(MODULES[paper].WORKLOADS[name].make)
    assert "same call in both" in said or "riginal" in said
    assert "timed" in MODULES[paper].__doc__ and math.isfinite(MODULES[paper].WORKLOADS[name].images)
