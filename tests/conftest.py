"""What tests of several packages share."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def one_thread():
    """One thread for torch: golden figures are of one, and sums depend on the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def two_processes():
    """``run(words, **environment)``: ``python WORDS`` as two processes of one gloo job; returns both standard errors.

    The machine may be busy, hence the long limit.
    """

    def run(words: list[str], **environment: str) -> list[str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        shared = {**os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                  "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", **environment}  # fmt: skip
        jobs = [
            subprocess.Popen(
                [sys.executable, *words], env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, cwd=ROOT,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )
            for rank in range(2)
        ]  # fmt: skip
        errors = []
        for job in jobs:
            errors.append(job.communicate(timeout=300)[1])
            assert job.returncode == 0, errors[-1][-2000:]
        return errors

    return run
