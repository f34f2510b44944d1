"""The curves of ``growth.py`` and steps in 1, 2 and 4 processes; without
``--benchmark-enable`` the smallest of each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import fresh
from tests.benchmarks.growth import CURVES
from tests.benchmarks.processes import STEPS
from tests.benchmarks.scale import STEPS as PUBLISHED

ROOT = Path(__file__).resolve().parents[2]
POINTS = [(name, size) for name, curve in CURVES.items() for size in curve.sizes]


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("name, size", POINTS)
def test_curve(benchmark: Any, one_thread: None, name: str, size: int) -> None:
    curve = CURVES[name]
    if not benchmark.enabled and size != curve.sizes[0]:
        pytest.skip("one size is enough of a test")
    torch.manual_seed(0)
    step = curve.make(size)
    benchmark.extra_info.update(curve=name, paper=curve.paper, axis=curve.axis, step=curve.step, size=size)
    benchmark.pedantic(step, rounds=5, warmup_rounds=1) if benchmark.enabled else benchmark(step)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_processes(benchmark: Any, count: int) -> None:
    """Steps of the same batch in more and more processes, of one thread each."""
    if not benchmark.enabled and count != 2:
        pytest.skip("two are enough of a test")
    found = benchmark.pedantic(in_processes if benchmark.enabled else small, args=(count,))
    assert set(found) == set(STEPS) and min(found.values()) > 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    benchmark.extra_info.update(processes=count, cores=cores, steps=found)


@pytest.mark.parametrize("search, phase", [(search, phase) for search, parts in PUBLISHED.items() for phase in parts])
def test_published_scale(benchmark: Any, one_thread: None, search: str, phase: str) -> None:
    """What a step of a published search does: operations an image, and operators. Its time is not the point."""
    if not benchmark.enabled and phase != "controller":
        pytest.skip("one is enough of a test")
    torch.manual_seed(0)
    found = benchmark.pedantic(PUBLISHED[search][phase].counted)
    assert min(found["flops_an_image"], found["operators"]) > 0 and found["flops_besides"] >= 0
    benchmark.extra_info.update(search=search, phase=phase, **found)


PROGRAM = ["-m", "tests.benchmarks.processes"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def small(count: int) -> dict[str, float]:
    """Seconds of the smallest steps in two processes, by paper."""
    jobs = fresh.pair([*PROGRAM, "--small"], ONE_THREAD)
    said = [job.communicate(timeout=600) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0] and count == 2, said[0][1][-2000:]
    return json.loads(said[0][0].splitlines()[-1])


def in_processes(count: int) -> dict[str, float]:
    """Seconds of a step, by paper."""
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), *PROGRAM]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])
