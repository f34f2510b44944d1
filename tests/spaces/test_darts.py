"""Derived networks of the DARTS space: genotypes, drop-path, sizes."""

from __future__ import annotations

import re

import pytest
import torch

from common.errors import UserError
from common.spaces.architecture import save_architecture
from common.spaces.darts.genotype import Genotype, load_genotype
from common.spaces.darts.network import NetworkCIFAR, NetworkImageNet, reductions
from common.spaces.darts.operations import OPS, Identity, drop_path

NORMAL = [["sep_conv_3x3", 0], ["skip_connect", 1], ["dil_conv_5x5", 2], ["max_pool_3x3", 0]] * 2
REDUCE = [["skip_connect", 0], ["avg_pool_3x3", 1], ["sep_conv_5x5", 0], ["skip_connect", 2]] * 2
CELLS = {"normal": NORMAL, "normal_concat": [2, 3, 4, 5], "reduce": REDUCE, "reduce_concat": [2, 3, 4, 5]}


def test_genotype_travels_unchanged() -> None:
    genotype = Genotype.from_dict(CELLS)
    assert genotype.as_dict() == CELLS
    assert Genotype.from_dict(genotype.as_dict()) == genotype


@pytest.mark.parametrize(
    "content",
    [
        None, [], {"normal": NORMAL}, {**CELLS, "normal": NORMAL[:3]}, {**CELLS, "reduce": [["sep_conv_9x9", 0]] * 8},
        {**CELLS, "normal": [["skip_connect", 2]] * 8}, {**CELLS, "normal": [["skip_connect"]] * 8},
    ],
)  # fmt: skip
def test_what_is_no_genotype_is_refused_in_one_line(content) -> None:
    with pytest.raises(UserError, match="not a DARTS genotype") as caught:
        Genotype.from_dict(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"normal": NORMAL[:7]}, "normal cell has 7 pairs; it needs 8"),
        ({"reduce": [["skip_connect", 2], *REDUCE[1:]]}, "reads state 2, which comes later; node 0 can read 0 to 1"),
        ({"normal": [["sep_conv_9x9", 0], *NORMAL[1:]]}, "unknown operation 'sep_conv_9x9'"),
        ({"reduce_concat": [2, 6]}, "concatenates [2, 6]; states are 0 to 5"),
    ],
)
def test_a_file_is_told_what_is_wrong_with_its_cells(change, words, tmp_path) -> None:
    path = tmp_path / "architecture.json"
    save_architecture(path, "darts", {**CELLS, **change})
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        load_genotype(str(path), {})
    assert str(path) in str(caught.value)
    with pytest.raises(UserError, match="unknown architecture 'EvNASa'; did you mean 'EvNASA'"):
        load_genotype("EvNASa", {"EvNASA": Genotype.from_dict(CELLS)})


def plain_cell(cell, before, last):
    """The cell with nothing shared."""
    states = [cell.preprocess0(before), cell.preprocess1(last)]
    for slot in range(0, len(cell._ops), 2):
        states.append(sum(cell._ops[k](states[cell.states[k]]) for k in (slot, slot + 1)))
    return torch.cat([states[i] for i in cell.concat], 1)


def test_shared_relu_changes_no_bit_of_output_and_no_gradient() -> None:
    torch.manual_seed(0)
    model = NetworkCIFAR(Genotype.from_dict(CELLS), 4, 10, 3).double().train()
    for cell in model.cells:
        width = [block.op[1].in_channels if hasattr(block, "op") else block.conv_1.in_channels
                 for block in (cell.preprocess0, cell.preprocess1)]  # fmt: skip
        size = 8 if hasattr(cell.preprocess0, "op") else 16  # the older input is twice as large after a reduction
        x = [torch.randn(2, width[0], size, size, dtype=torch.float64, requires_grad=True),
             torch.randn(2, width[1], 8, 8, dtype=torch.float64, requires_grad=True)]  # fmt: skip
        ours, theirs = cell(*x), plain_cell(cell, *x)
        assert torch.equal(ours, theirs)
        weight = torch.randn_like(ours)
        for a, b in zip(torch.autograd.grad((ours * weight).sum(), x), torch.autograd.grad((theirs * weight).sum(), x)):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_auxiliary_head_runs_in_training_only() -> None:
    model = NetworkCIFAR(Genotype.from_dict(CELLS), 4, 10, 4, auxiliary=True)
    x = torch.randn(2, 3, 32, 32)
    assert model.train()(x)[1].shape == (2, 10)
    assert model.eval()(x)[1] is None
    imagenet = NetworkImageNet(Genotype.from_dict(CELLS), 4, 20, 4, auxiliary=True).train()
    assert [t.shape for t in imagenet(torch.randn(2, 3, 224, 224))] == [(2, 20), (2, 20)]


def test_drop_path_keeps_the_mean_and_spares_identities() -> None:
    x = torch.ones(4000, 1, 1, 1)
    torch.manual_seed(0)
    dropped = drop_path(x, 0.2)
    assert set(dropped.unique().tolist()) == {0.0, 1.25}
    assert abs(float(dropped.mean()) - 1) < 0.03
    model = NetworkCIFAR(Genotype.from_dict(CELLS), 4, 10, 3)
    used = sum(not isinstance(op, Identity) for cell in model.cells for op in cell._ops)
    model.drop_path_prob = 0.5
    masks = [torch.ones(2) for _ in range(used)]
    model.train()(torch.randn(2, 3, 16, 16), masks)
    with pytest.raises((StopIteration, RuntimeError)):
        model.train()(torch.randn(2, 3, 16, 16), masks[:-1])
    model.eval()
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(model(x)[0], model(x)[0])


def test_reductions_of_the_published_depths() -> None:
    assert (reductions(8), reductions(20), reductions(14)) == ((2, 5), (6, 13), (4, 9))


@pytest.mark.parametrize("name", ["dil_conv_3x3", "dil_conv_5x5"])
def test_bf16_gradients_of_dilated_convolutions_on_the_cpu(name) -> None:
    """torch's own are wrong there (1e30 and NaN)."""
    torch.manual_seed(0)
    op = OPS[name](4, 1, False)
    x = torch.randn(64, 4, 32, 32).to(memory_format=torch.channels_last)
    gradients = []
    for enabled in (False, True):
        op.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = op(x)
        out.float().pow(3).mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in op.parameters()]))
    assert (gradients[1] - gradients[0]).norm() < 0.1 * gradients[0].norm()
