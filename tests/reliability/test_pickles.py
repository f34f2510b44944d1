"""Nothing that is loaded runs code."""

import argparse
import os
import pickle
import re
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import UserError
from common.weights.read import load_legacy_module, load_tensors, module_tensors, read_checkpoint

ROOT = Path(__file__).resolve().parents[2]


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("loader", [load_tensors, lambda p: load_legacy_module(p, {"posix.system", "model.RNNModel"})])
def test_a_malicious_checkpoint_does_not_execute(zipped, loader, tmp_path):
    path, mark = tmp_path / "evil.pt", tmp_path / "executed"
    torch.save({"state_dict": {}, "args": Evil(mark)}, path, _use_new_zipfile_serialization=zipped)
    try:
        loader(path)
    except UserError as error:
        assert "system" in str(error)
    assert not mark.exists()


@pytest.mark.parametrize("payload", [b"cos\nsystem\n(S'touch MARK'\ntR.", pickle.dumps({"a": 1}), b"\x80\x02", b"text"])
def test_a_bare_pickle_is_refused(payload, tmp_path):
    mark = tmp_path / "executed"
    (tmp_path / "x.pt").write_bytes(payload.replace(b"MARK", str(mark).encode()))
    with pytest.raises(UserError, match="cannot be read safely"):
        load_tensors(tmp_path / "x.pt")
    assert not mark.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_scripts_put_beside_weights_is_inert_data(zipped, tmp_path):
    content = {
        "state_dict": OrderedDict(w=torch.arange(6.0).reshape(2, 3)), "args": argparse.Namespace(lr=0.1, arch="X"),
        "best": np.float64(97.5), "count": np.int64(3), "log": defaultdict(list, a=[1]), "best_acc": torch.tensor(97.5),
    }  # fmt: skip
    torch.save(content, tmp_path / "a.pth.tar", _use_new_zipfile_serialization=zipped)
    back = load_tensors(tmp_path / "a.pth.tar")
    assert torch.equal(back["state_dict"]["w"], content["state_dict"]["w"])
    assert back["args"].lr == 0.1 and back["args"].arch == "X" and not isinstance(back["args"], argparse.Namespace)
    assert back["best"] == 97.5 and back["count"] == 3 and back["log"] == {"a": [1]}


class RNNModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(7, 3)
        self.rnns = nn.ModuleList([nn.Linear(3, 6)])
        self.decoder = nn.Linear(3, 7)
        self.decoder.weight = self.encoder.weight
        self.register_buffer("steps", torch.tensor([4]))
        self.drop = nn.Dropout(0.2)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_module_is_read_as_data(zipped, tmp_path):
    torch.manual_seed(0)
    model, path, name = RNNModel(), tmp_path / "model.pt", f"{RNNModel.__module__}.RNNModel"
    torch.save(model, path, _use_new_zipfile_serialization=zipped)
    tensors = module_tensors(load_legacy_module(path, {name}))
    expected = model.state_dict()
    assert set(tensors) == set(expected)
    assert all(torch.equal(tensors[k], expected[k]) for k in expected)
    with pytest.raises(UserError, match=re.escape(f"{name}, which is not on the allow-list")):
        load_legacy_module(path, {"model.DARTSCell"})
    found = read_checkpoint(path, classes=[name])
    assert set(found.tensors) == set(expected) and found.container == ""
    with pytest.raises(UserError, match=re.escape(f"{name}, which is not on the allow-list")):
        read_checkpoint(path)
    torch.save({"model": model, "epoch": np.int64(4)}, path, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(path, classes=[name])
    assert set(found.tensors) == set(expected) and (found.container, found.epoch) == ("model", 4)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("cut", [0.2, 0.6, 0.99])
def test_a_truncated_checkpoint_is_one_line(zipped, cut, tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"w": torch.randn(500)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(UserError, match=r"w.pt cannot be read safely.*get the file again"):
        load_tensors(path)


def test_tensors_cannot_reach_outside_their_storage(tmp_path):
    class Reach:
        def __reduce__(self):
            storage = torch.zeros(4).untyped_storage()
            return torch._utils._rebuild_tensor_v2, (torch.TypedStorage(wrap_storage=storage, dtype=torch.float32,
                    _internal=True), 0, (1000,), (1,), False, OrderedDict())  # fmt: skip

    torch.save([Reach(), argparse.Namespace(kept=Path("x"))], tmp_path / "r.pt")
    with pytest.raises(UserError, match="outside its storage"):
        load_tensors(tmp_path / "r.pt")


def test_no_code_of_the_suite_evaluates_text_or_unpickles_freely():
    forbidden = re.compile(
        r"(?<![\w.])(?:eval|exec)\(|weights_only\s*=\s*False|\bpickle\.loads?\(|allow_pickle\s*=\s*True"
    )
    for folder in ("common", "papers", "reproductions"):
        for path in (ROOT / folder).rglob("*.py"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                assert not forbidden.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
