"""Strict loading that says what does not fit; our own weights."""

import argparse
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from common.errors import UserError
from common.weights.read import load_strict, load_tensors, read_checkpoint, read_metadata, save_weights, strip_prefix


class Net(nn.Module):
    def __init__(self, width=4, auxiliary=False):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 1)
        self.bn = nn.BatchNorm2d(width)
        if auxiliary:
            self.auxiliary_head = nn.Linear(width, 2)


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_own_weights_travel(tmp_path):
    one, two = Net(), Net()
    save_weights(one, tmp_path / "w.safetensors")
    load_strict(two, load_tensors(tmp_path / "w.safetensors"))
    assert same(one, two)
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_prefixes_and_renaming():
    one, two = Net(), Net()
    wrapped = {f"module._orig_mod.{k}": v for k, v in one.state_dict().items()}
    load_strict(two, strip_prefix(wrapped))
    assert same(one, two)
    foreign = {k.replace("stem", "conv1"): v for k, v in Net().state_dict().items()} | {"fc.weight": torch.ones(1)}
    rename = lambda key: None if key.startswith("fc.") else key.replace("conv1", "stem")
    load_strict(two, foreign, rename=rename)
    assert torch.equal(two.stem.weight, foreign["conv1.weight"])


def test_auxiliary_heads_and_old_counters_may_be_absent():
    with_head, without = Net(auxiliary=True), Net()
    load_strict(without, with_head.state_dict())
    load_strict(with_head, without.state_dict())
    old = {k: v for k, v in Net().state_dict().items() if "num_batches" not in k}
    load_strict(without, old)
    assert without.bn.num_batches_tracked == 0


def test_what_does_not_fit_is_named_and_the_model_untouched():
    model = Net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    tensors = dict(Net(width=5).state_dict())
    del tensors["bn.bias"]
    tensors["cells.0.op.weight"] = torch.ones(1)
    with pytest.raises(UserError) as caught:
        load_strict(model, tensors, source="x.pt")
    message = str(caught.value)
    assert message.startswith(
        "x.pt does not fit this architecture: 1 missing (bn.bias); 1 unexpected (cells.0.op.weight)"
    )
    assert "stem.weight [5, 3, 1, 1] instead of [4, 3, 1, 1]" in message and "\n" not in message
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_damaged_or_absent_files(tmp_path):
    save_weights(Net(), tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-8])
    (tmp_path / "e.pt").touch()
    for name, words in (("w.safetensors", "not a whole safetensors"), ("e.pt", "is empty"), ("no.pt", "no checkpoint")):
        with pytest.raises(UserError, match=words):
            load_tensors(tmp_path / name)


def flip(path, needle):
    """Change one bit behind ``needle`` inside a file."""
    content = bytearray(path.read_bytes())
    content[content.index(needle)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_one_flipped_bit_is_found(name, tmp_path):
    model = Net()
    path = tmp_path / name
    save_weights(model, path) if name.endswith("safetensors") else torch.save(model.state_dict(), path)
    load_tensors(path)
    flip(path, model.stem.weight.detach().numpy().tobytes())
    with pytest.raises(UserError, match=r"w\..* is damaged: .*SHA-256|w\.pt is damaged: .* differs from its CRC-32"):
        load_tensors(path)


def test_foreign_safetensors_without_a_sum_are_read(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "f.safetensors")
    assert torch.equal(load_tensors(tmp_path / "f.safetensors")["a"], torch.ones(2))


def test_shared_tensors_are_saved(tmp_path):
    shared = torch.ones(3)
    save_weights({"a": shared, "b": shared, "c": torch.ones(2, 3).T}, tmp_path / "s.safetensors")
    assert set(load_tensors(tmp_path / "s.safetensors")) == {"a", "b", "c"}


# -- containers ----------------------------------------------------------------------------------------------------


def weights(shift=0.0, prefix=""):
    torch.manual_seed(0)
    return OrderedDict((prefix + k, v + shift if v.is_floating_point() else v) for k, v in Net().state_dict().items())


CONTAINERS = {
    "bare": lambda w: (w, "", ""),
    "published": lambda w: (
        {"epoch": 250, "state_dict": w, "best_acc_top1": torch.tensor(74.5), "optimizer": {"state": {0: {"m": w}}}},
        "state_dict", "raw"),
    "namespace": lambda w: ({"model": w, "args": argparse.Namespace(arch="1 2 3", lr=0.1), "epoch": 3}, "model", "raw"),
    "net": lambda w: ({"net": w, "acc": np.float64(97.5), "epoch": np.int64(7), "best": np.bool_(True)}, "net", "raw"),
    "optimizer": lambda w: ({"model_state_dict": w, "optimizer_state_dict": {"state": {}}}, "model_state_dict", "raw"),
    "ema only": lambda w: ({"state_dict_ema": w, "arch": "x"}, "state_dict_ema", "ema"),
    "ema nested": lambda w: ({"ema": {"state_dict": w, "decay": 0.999}, "name": "y"}, "ema.state_dict", "ema"),
    "ema module": lambda w: ({"ema": {"module": w, "decay": np.float32(0.5)}}, "ema.module", "ema"),
    "nested": lambda w: ({"state_dict": {"model": w, "epoch": 2}, "model": "resnet"}, "state_dict.model", "raw"),
    "another name": lambda w: ({"weights": w, "optimizer": {"state": {0: {"m": w}}}}, "weights", "raw"),
    "known inside another": lambda w: ({"checkpoint": {"state_dict": w}}, "checkpoint.state_dict", "raw"),
    "numbers inside": lambda w: ({**w, "epoch": np.float32(4.0)}, "", ""),
    "arrays": lambda w: ({"state_dict": w, "losses": np.arange(6.0).reshape(2, 3), "log": defaultdict(list)},
                         "state_dict", "raw"),
}  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "module._orig_mod."])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_one_reader_for_every_container(kind, prefix, zipped, tmp_path):
    content, container, which = CONTAINERS[kind](weights(prefix=prefix))
    torch.save(content, tmp_path / "x.pth.tar", _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(tmp_path / "x.pth.tar")
    assert (found.container, found.weights, found.both) == (container, which, False)
    model = Net()
    load_strict(model, found.tensors, source=found.source)
    assert all(torch.equal(v, weights()[k]) for k, v in model.state_dict().items())
    assert {"published": 250, "namespace": 3, "net": 7}.get(kind) == found.epoch
    if kind == "published":
        assert found.beside["best_acc_top1"] == pytest.approx(74.5) and "optimizer" in found.beside
    if kind == "net":
        assert (found.beside["acc"], found.beside["best"]) == (97.5, True)
    if kind == "namespace":
        assert found.beside["args"].arch == "1 2 3"
    if kind == "arrays":
        assert np.array_equal(found.beside["losses"], np.arange(6.0).reshape(2, 3))
    assert not set(found.beside) & {"state_dict", "net", "model_state_dict", "ema", *weights(prefix=prefix)}


@pytest.mark.parametrize(
    "layout", [("state_dict", "state_dict_ema"), ("model", "ema"), ("state_dict", "ema.state_dict")]
)
def test_where_both_are_there_the_default_is_said(layout, tmp_path, capsys):
    raw, average = layout
    holder = {"epoch": 1, raw: weights()}
    if "." in average:
        holder["ema"] = {"state_dict": weights(1.0, "module.")}
    else:
        holder[average] = weights(1.0, "module.")
    torch.save(holder, tmp_path / "x.pt")
    found = {which: read_checkpoint(tmp_path / "x.pt", which) for which in ("ema", "raw")}
    assert capsys.readouterr().err == ""
    automatic = read_checkpoint(tmp_path / "x.pt")
    assert "the average is taken" in (said := capsys.readouterr().err) and "--weights raw" in said and average in said
    assert all(f.both for f in (automatic, *found.values()))
    assert torch.equal(automatic.tensors["stem.weight"], weights(1.0)["stem.weight"])
    assert torch.equal(found["ema"].tensors["stem.weight"], weights(1.0)["stem.weight"])
    assert torch.equal(found["raw"].tensors["stem.weight"], weights()["stem.weight"])
    assert (found["ema"].container, found["raw"].container, found["raw"].epoch) == (average, raw, 1)


def test_an_averaged_model_of_torch(tmp_path):
    average = {"n_averaged": torch.tensor(3), **weights(1.0, "module.")}
    torch.save({"model": weights(), "ema": average}, tmp_path / "x.pt")
    found = read_checkpoint(tmp_path / "x.pt")
    load_strict(Net(), found.tensors, source=found.source)
    assert found.weights == "ema" and found.beside["n_averaged"] == 3


def test_wrong_files_are_refused_in_one_line(tmp_path):
    faults = {
        "holds no weights: it holds student, teacher": ({"student": weights(), "teacher": weights()}, "auto"),
        "holds raw weights only": ({"state_dict": weights()}, "ema"),
        "holds ema weights only": ({"ema": weights()}, "raw"),
        "holds unnamed weights only": (weights(), "raw"),
        "holds no weights: it holds epoch, optimizer": ({"epoch": 3, "optimizer": {}}, "auto"),
        "differ in module. or _orig_mod. only": ({**weights(), **weights(prefix="module.")}, "auto"),
    }
    for words, (content, which) in faults.items():
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(UserError, match=words) as caught:
            read_checkpoint(tmp_path / "x.pt", which)
        assert "\n" not in str(caught.value)


def test_own_files_say_what_they_are(tmp_path):
    about = {"architecture": {"space": "darts", "architecture": [1, 2]}, "dataset": "cifar10", "classes": 10,
             "weights": "ema", "width": None}  # fmt: skip
    paths = [tmp_path / "w.safetensors", tmp_path / "again.safetensors"]
    for path in paths:
        save_weights({"module._orig_mod." + k: v for k, v in weights().items()}, path, metadata=about)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert read_metadata(paths[0]) == about
    found = read_checkpoint(paths[0])
    assert found.metadata == about and found.weights == "ema" and set(found.tensors) == set(weights())
    assert read_checkpoint(paths[0], "ema").weights == "ema"
    (tmp_path / "named.pth").write_bytes(paths[0].read_bytes())  # the name is not what decides
    assert read_checkpoint(tmp_path / "named.pth").metadata == about
    torch.save(weights(), tmp_path / "x.pt")
    assert read_metadata(tmp_path / "x.pt") == {}
    content = paths[0].read_bytes()
    paths[1].write_bytes(content.replace(b"cifar10", b"cifar20"))
    with pytest.raises(UserError, match="is damaged"):
        read_checkpoint(paths[1])
