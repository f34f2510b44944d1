"""Damaged bookkeeping of a run: a line that names the file, in the run itself and in what reads results."""

import json

import pytest

from common.errors import UserError
from reproductions.results import Result, read

DAMAGE = [b"", b"[]", b"{", b'{"files": 3}', b'{"files": [1]}', b"\xff\xfe\x00", b"[" * 100_000, b"null"]


@pytest.fixture
def finished(here, tmp_path):
    assert here(tmp_path / "run").returncode == 0
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["finished.json", "settings.json", "result.json"])
def test_a_damaged_file_of_a_finished_run_is_named(name, finished, here, one_line):
    content = (finished / name).read_bytes()
    for damage in DAMAGE:
        (finished / name).write_bytes(damage)
        done = here(finished)
        if (
            name == "result.json" and done.returncode == 0
        ):  # another JSON value: what is read back is said to be damaged
            pytest.fail(f"{damage[:20]!r} was taken for a result")
        assert name in one_line(done)
    (finished / name).write_bytes(content)
    assert here(finished).returncode == 0


@pytest.mark.parametrize("name", ["history.csv", "env.json", ".written.json", "timing.json"])
def test_other_files_of_a_finished_run_may_be_damaged(name, finished, here):
    for damage in DAMAGE:
        (finished / name).write_bytes(damage)
        done = here(finished)
        assert "Traceback" not in done.stderr and done.returncode in (0, 2)


def test_what_reads_results_names_what_is_damaged(tmp_path):
    folder = tmp_path / "smoke" / "evnas" / "search-seed0"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"paper": "evnas", "metrics": {}}), encoding="utf-8")
    result = read(folder / "result.json")
    assert isinstance(result, Result) and result.history() == [] and result.environment() == {}
    for damage in (b"\xff\xfe\x00", b"a,b\n1\n", b"a,b\n1,2,3\n"):
        (folder / "history.csv").write_bytes(damage)
        with pytest.raises(UserError, match=r"history\.csv"):
            result.history()
    for damage in (b"[]", b"{", b'{"packages": 3}', b'{"git": "x"}', b"[" * 100_000):
        (folder / "env.json").write_bytes(damage)
        with pytest.raises(UserError, match=r"env\.json"):
            result.environment()
    for damage in (b"[]", b"{", b'{"metrics": 3}', b"[" * 100_000):
        (folder / "result.json").write_bytes(damage)
        with pytest.raises(UserError, match=r"result\.json"):
            read(folder / "result.json")
