"""Damaged, missing, swapped and half-written states; full disks; what a state may hold."""

import hashlib
import random
import resource
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from common.cli.verbs import RunOptions
from common.errors import UserError
from common.run import files as records
from common.run import state as states
from common.run.folder import open_run


@dataclass(frozen=True)
class Settings:
    lr: float = 0.1
    workers: int = 0


def options(folder, **more):
    return RunOptions(**{"out": folder, "paper": "tiny", "section": "search", "device": "cpu", **more})


def saved(folder, *values):
    """An unfinished run with one state per value."""
    with open_run(options(folder), Settings()) as run:
        for value in values:
            run.log(value=value)
            run.write_state({"value": value, "weights": torch.full((1000,), float(value))})
    return sorted((folder / "state").glob("*.pt"))


def loaded(folder):
    with open_run(options(folder), Settings()) as run:
        return run.read_state()


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def no_hash(path):
    path.with_name(path.name + ".sha256").unlink()


def swap_hash(path):
    older = sorted(path.parent.glob("*.sha256"))[0]
    path.with_name(path.name + ".sha256").write_text(older.read_text())


@pytest.mark.parametrize("damage", [flip, truncate, empty, no_hash, swap_hash])
def test_a_damaged_newest_state_falls_back_to_the_one_before(damage, tmp_path, capfd):
    damage(saved(tmp_path, 1, 2, 3)[-1])
    state = loaded(tmp_path)
    assert state["value"] == 2
    assert "state-00000003.pt" in capfd.readouterr().err
    assert (tmp_path / "history.csv").read_text().split() == ["value", "1", "2"]  # the third row is written again


def test_rows_after_the_state_are_dropped_and_a_removed_history_comes_back(tmp_path):
    saved(tmp_path, 1, 2)
    history = tmp_path / "history.csv"
    whole = history.read_bytes()
    history.write_bytes(whole + b"3\n4")
    with open_run(options(tmp_path), Settings()) as run:
        run.log("steps", a=1)
    (tmp_path / "mine.csv").write_text("a\n1\n")
    loaded(tmp_path)
    assert history.read_bytes() == whole and not (tmp_path / "steps.csv").exists()
    assert (tmp_path / "mine.csv").read_text() == "a\n1\n"  # the user's own table is not the run's
    history.unlink()
    loaded(tmp_path)
    assert history.read_bytes() == whole


def test_both_hashes_are_named_and_nothing_whole_is_an_error(tmp_path):
    files = saved(tmp_path, 1, 2)
    recorded = hashlib.sha256(files[1].read_bytes()).hexdigest()
    for file in files:
        flip(file)
    with pytest.raises(UserError, match="no older state is whole; start over with --no-resume") as caught:
        loaded(tmp_path)
    assert recorded in str(caught.value)
    assert hashlib.sha256(files[1].read_bytes()).hexdigest() in str(caught.value)


def test_the_last_two_are_kept(tmp_path):
    assert [f.name for f in saved(tmp_path, 1, 2, 3, 4)] == ["state-00000003.pt", "state-00000004.pt"]
    assert loaded(tmp_path)["value"] == 4


def test_a_save_that_raises_halfway_leaves_the_earlier_states(tmp_path, monkeypatch):
    saved(tmp_path, 1, 2)
    real = torch.save

    def broken(content, file, *rest):
        real(content, file, *rest)
        file.seek(0)
        file.truncate(100)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", broken)
    with open_run(options(tmp_path), Settings()) as run, pytest.raises(OSError):
        run.read_state()
        run.write_state({"value": 3})
    monkeypatch.undo()
    assert loaded(tmp_path)["value"] == 2
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_write_cut_by_the_file_size_limit_leaves_the_earlier_states(tmp_path):
    saved(tmp_path, 1, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_run(options(tmp_path), Settings()) as run:
        run.read_state()
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(UserError, match=r"cannot write .*state-00000003\.pt.*untouched"):
                run.write_state({"value": 3, "weights": torch.zeros(10_000)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.rglob("*.tmp"))
    assert loaded(tmp_path)["value"] == 2
    saved(tmp_path, 5)
    assert loaded(tmp_path)["value"] == 5


def test_leftovers_of_a_killed_writer_are_swept(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / "state" / ".state-00000002.pt.abc.tmp").write_bytes(b"half")
    (tmp_path / "state" / "state-00000002.pt.sha256").write_text("0" * 64)
    assert loaded(tmp_path)["value"] == 1
    saved(tmp_path, 2)
    assert len(list((tmp_path / "state").iterdir())) == 4


def test_leftovers_beside_a_killed_runs_files_are_swept_and_a_strangers_stay(tmp_path):
    saved(tmp_path, 1)
    ours = [".history.csv.abcd1234.tmp", "..written.json.abcd1234.tmp", ".settings.json.abcd1234.tmp"]
    for name in [*ours, ".mine.txt.abcd1234.tmp", "notes.tmp"]:
        (tmp_path / name).write_text("half")
    loaded(tmp_path)
    assert not [name for name in ours if (tmp_path / name).exists()]
    assert (tmp_path / ".mine.txt.abcd1234.tmp").exists() and (tmp_path / "notes.tmp").exists()


def test_states_that_a_kill_at_the_very_end_left_are_cleared(tmp_path):
    saved(tmp_path, 1)
    with open_run(options(tmp_path), Settings()) as run:
        run._store.clear = lambda: None  # the kill: finished.json is there, the states are still
        run.finish({"metrics": {}})
    assert (tmp_path / "state").exists()
    with open_run(options(tmp_path), Settings()) as run:
        assert run.result is not None
    assert not (tmp_path / "state").exists()


def test_every_generator_is_put_back(tmp_path):
    with open_run(options(tmp_path), Settings()) as run:
        run.write_state({})
        expected = (random.random(), np.random.rand(), torch.rand(3), np.random.standard_normal())
    with open_run(options(tmp_path), Settings()) as run:
        assert run.read_state() == {}
        run.restore_generators()
        again = (random.random(), np.random.rand(), torch.rand(3), np.random.standard_normal())
    assert again[0] == expected[0] and again[1] == expected[1] and again[3] == expected[3]
    assert torch.equal(again[2], expected[2])


def test_what_a_state_may_hold(tmp_path):
    state = {
        "tuple": ((1, "a"), [2.5, None, True]), 3: {"n": np.float64(0.1), "i": np.int64(7)}, (0, 1): b"raw",
        "array": np.arange(6, dtype=np.int16).reshape(2, 3), "empty": np.zeros((0, 4)), "inf": float("inf"),
        "bool": np.array([True, False]), "parameter": torch.nn.Parameter(torch.ones(2)),
    }  # fmt: skip
    back = states.decode(states.encode(state))
    assert back["tuple"] == state["tuple"] and back[3] == {"n": 0.1, "i": 7} and back[(0, 1)] == b"raw"
    for key in ("array", "empty", "bool"):
        assert np.array_equal(back[key], state[key]) and back[key].dtype == state[key].dtype
    with open_run(options(tmp_path), Settings()) as run:
        run.write_state(state)
    assert torch.equal(loaded(tmp_path)["parameter"], torch.ones(2))
    with pytest.raises(TypeError, match=r"state\['x'\]\[0\] is a builtins.object"):
        states.encode({"x": [object()]})


def test_atomic_writes_leave_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    records.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        records.write_json(path, {"a": object()})
    monkeypatch.setattr(records.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="No space left"):
        records.write_json(path, {"a": 2})
    assert records.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
