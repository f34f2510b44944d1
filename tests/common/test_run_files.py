"""Records that are never half-written; streams that depend on their names only; architecture files; devices."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from common.cli.verbs import RunOptions
from common.errors import UserError
from common.run import files as records
from common.run import seeds
from common.run.device import autocast, deterministic, peak_memory_bytes, pick_device
from common.spaces.architecture import load_architecture, save_architecture


def test_json_is_sorted_plain_and_refuses_foreign_scalars(tmp_path):
    records.write_json(tmp_path / "a" / "x.json", {"b": (1, 2.5), "a": {"k": None, 3: True}})
    text = (tmp_path / "a" / "x.json").read_text()
    assert json.loads(text) == {"a": {"k": None, "3": True}, "b": [1, 2.5]}
    assert text.index('"a"') < text.index('"b"') and text.endswith("}\n")
    for bad, words in (
        (np.float64(1), "record.m"),
        (torch.tensor(1.0), "record.m"),
        (object(), "object"),
        ({1}, "set"),
    ):
        with pytest.raises(TypeError, match=words):
            records.write_json(tmp_path / "y.json", {"m": bad})
    with pytest.raises(ValueError, match="nan"):
        records.write_json(tmp_path / "y.json", {"m": float("nan")})
    assert not (tmp_path / "y.json").exists()


def test_damaged_json_is_one_line(tmp_path):
    (tmp_path / "x.json").write_text("{")
    for name in ("x.json", "absent.json"):
        with pytest.raises(UserError, match=name):
            records.read_json(tmp_path / name)


def test_csv_rows_have_fixed_columns_and_all_digits(tmp_path):
    path = tmp_path / "h.csv"
    records.append_csv(path, {"epoch": 1, "loss": 0.1 + 0.2, "note": "a,b"})
    records.append_csv(path, {"loss": np.float64(1 / 3), "epoch": 2, "note": None})
    assert path.read_text() == f'epoch,loss,note\n1,{0.1 + 0.2!r},"a,b"\n2,{1 / 3!r},\n'
    with pytest.raises(ValueError, match="columns"):
        records.append_csv(path, {"epoch": 3})


def test_environment_names_versions_and_hardware():
    found = records.environment()
    assert found["packages"]["torch"].startswith(torch.__version__.split("+")[0])
    assert found["cores"] >= 1 and found["python"].startswith("3.")
    json.dumps(records.checked(found))


def test_the_recorded_command_can_be_typed(monkeypatch):
    root = Path(records.__file__).resolve().parents[2]
    monkeypatch.setattr("sys.argv", [str(root / "papers" / "evnas" / "__main__.py"), "search", "--seed", "1"])
    assert records.command() == ["python", "-m", "papers.evnas", "search", "--seed", "1"]
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/pytest", "-q"])
    assert records.command() == ["pytest", "-q"]


def test_commit_and_whether_the_code_was_changed(tmp_path):
    def git(*words):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert records.git_state(tmp_path) == {"commit": None, "changed": None}
    names = ("common/a.py", "results/smoke/x.json", "dvc.lock", "reproductions/proxy/dvc.lock", "requirements.lock")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("as committed")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD").strip()
    for name, changed in zip(names, (True, False, False, False, True)):
        (tmp_path / name).write_text("changed")
        assert records.git_state(tmp_path) == {"commit": commit, "changed": changed}, name
        (tmp_path / name).write_text("as committed")


def test_streams_are_functions_of_seed_and_names():
    draw = lambda *names: torch.rand(4, generator=seeds.generator(*names)).tolist()
    assert draw(0, "a", 1) == draw(0, "a", 1)
    streams = [(0, "a", 1), (0, "a", 2), (1, "a", 1), (0, "a1"), (0, "a", "1")]
    assert len({tuple(draw(*names)) for names in streams}) == 5
    assert draw(0, "a", np.int64(1)) == draw(0, "a", 1)
    assert seeds.numpy_rng(0, "x").rand() == seeds.numpy_rng(0, "x").rand() != seeds.numpy_rng(0, "y").rand()
    # Stable for ever: a saved run must find the same streams after an update.
    assert seeds.integer(0, "a", 1) == 4703897310230450234
    assert seeds.numpy_rng(7, "x").randint(1 << 30) == 784745030


def test_seed_everything():
    import random

    draws = []
    for _ in range(2):
        seeds.seed_everything(3)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]


def test_architecture_files(tmp_path):
    path = tmp_path / "architecture.json"
    save_architecture(path, "darts", {"normal": [["skip_connect", 0]]}, {"seed": 1})
    assert load_architecture(path, "darts") == {"normal": [["skip_connect", 0]]}
    assert json.loads(path.read_text())["schema"] == 1
    with pytest.raises(UserError, match="space 'darts'; 'nao' is needed"):
        load_architecture(path, "nao")
    path.write_text('{"schema": 2, "space": "darts", "architecture": []}')
    with pytest.raises(UserError, match="schema 2"):
        load_architecture(path, "darts")
    path.write_text("[]")
    with pytest.raises(UserError, match="not an architecture file"):
        load_architecture(path, "darts")


def test_devices_and_precision():
    cpu = pick_device(RunOptions(device="cpu"))
    assert cpu.type == "cpu" and pick_device().type in ("cpu", "cuda")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="--device cpu"):
            pick_device(RunOptions(device="cuda"))
    x = torch.ones(2, 2)
    with autocast(cpu, "fp32"):
        assert (x @ x).dtype is torch.float32
    with autocast(cpu, "bf16"):
        assert (x @ x).dtype is torch.bfloat16
    with pytest.raises(UserError, match="fp16"):
        autocast(cpu, "fp16")
    with deterministic():
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert peak_memory_bytes() > 2**20
