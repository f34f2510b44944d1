"""Strict loading that says what does not fit; our own weights."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from common.checkpoints import load_strict, load_tensors, save_weights, strip_prefix
from common.errors import UserError


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
