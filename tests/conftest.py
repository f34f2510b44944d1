"""What tests of several packages share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests import fresh

ROOT = Path(__file__).resolve().parents[1]
# As ``make test`` has it, where pytest is called by itself: two processes of one thread each are compared with one.
torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))


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
        errors = []
        for job in fresh.pair(words, {**os.environ, "OMP_NUM_THREADS": "1", **environment}):
            errors.append(job.communicate(timeout=600)[1])
            assert job.returncode == 0, errors[-1][-2000:]
        return errors

    return run
