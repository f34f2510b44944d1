"""A job over several machines: they need one folder that all of them see."""

from __future__ import annotations

import os
import socket

from tests import fresh

SEARCH = [
    *("-m", "papers.evnas", "search", "--space", "nb201", "--channels", "2", "--cells-per-stage", "1"),
    *("--generations", "1", "--train-images", "40", "--fitness-images", "40", "--population", "2"),
    *("--tournament", "2", "--device", "cpu", "--out"),
]


def job(folders):
    """The standard errors and exit statuses of a search whose processes were given folders of their own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0",
              "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    jobs = [fresh.start([*SEARCH, folder], {**shared, "RANK": str(rank)}) for rank, folder in enumerate(folders)]
    return [(j.communicate(timeout=600)[1], j.returncode) for j in jobs]


def test_machines_with_disks_of_their_own_are_refused(tmp_path):
    """Without a common folder the second would begin anew while the first goes on from its state."""
    for said, status in job([tmp_path / "here", tmp_path / "there"]):
        assert status == 2 and "process 1 of 2 does not see" in said and "--out" in said, said[-2000:]
    assert not (tmp_path / "there" / "settings.json").exists()
    assert [status for _, status in job([tmp_path / "here"] * 2)] == [0, 0]  # the corrected command goes on there
