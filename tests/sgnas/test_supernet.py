"""The unified supernet: initialisation, files, and the ablation of its switchable normalisation."""

from __future__ import annotations

import json

import pytest
import torch

from common.errors import UserError
from papers.sgnas.method.lookup import one_hot
from papers.sgnas.method.supernet_training import PathSGD, supernet_gradients, zero_gradients
from papers.sgnas.networks.architectures import MACROS, PUBLISHED, SKIP
from papers.sgnas.networks.derived import Network
from papers.sgnas.networks.fixed_supernet import FixedSupernet
from papers.sgnas.networks.published_keys import supernet_to_published, to_published
from papers.sgnas.networks.supernet import Supernet, load_supernet, save_supernet

TINY = MACROS["tiny"]
FIVE = [[0, 1, 2, 0, 1, SKIP]] * 5
SIX = [[0, 1, 2, 0, 1, 2]] * 5


def test_initialisation():
    """Every convolution of the authors: normal, std = sqrt(2 / (k k outputs)), the groups not divided out."""
    macro = MACROS["cifar"]
    generator = torch.Generator().manual_seed(3)
    network = Network(macro, PUBLISHED["SGNAS-A"], 100, se=True, generator=generator)
    supernet = Supernet(macro, 100, generator=generator)
    tensors = {**to_published(network.state_dict(), network)}
    tensors |= {f"supernet.{k}": v for k, v in supernet_to_published(supernet.state_dict(), supernet).items()}
    counted = 0
    for name, weight in tensors.items():
        if weight.dim() == 4:
            k, expected = weight.shape[-1], (2 / (weight.shape[-1] ** 2 * weight.shape[0])) ** 0.5
            slack = 5 / (2 * weight.numel()) ** 0.5  # five standard errors of a standard deviation
            assert float(weight.std()) == pytest.approx(expected, rel=slack), (name, k)
            assert abs(float(weight.mean())) < 5 * expected / weight.numel() ** 0.5, name
            counted += 1
        elif name.endswith("classifier.1.weight") or name == "supernet.classifier.weight":
            assert float(weight.std()) == pytest.approx(0.01, rel=0.02)
        elif name.endswith(".bias"):
            assert not weight.any(), name
    assert counted > 450


def supernet_of(switchable: bool) -> Supernet:
    """Random weights; every normalisation and its statistics differ from channel to channel and row to row."""
    supernet = Supernet(TINY, 10, 0.1, torch.Generator().manual_seed(0), switchable)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for stage in supernet.stages:
            for tensor in stage.switchable_bn.state_dict().values():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return supernet


def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def silence(supernet: Supernet) -> None:
    """Sub-block 5 contributes zero: skipping it or not then differs in the number of the normalisation alone."""
    with torch.no_grad():
        for stage in supernet.stages:
            stage.project[:, 5 * stage.channels :] = 0


def test_parameters_and_weights():
    six, one = Supernet(TINY, 10), Supernet(TINY, 10, switchable_bn=False)
    count = [sum(p.numel() for p in net.parameters()) for net in (six, one)]
    assert count[0] - count[1] == 5 * 2 * sum(out for out, _ in TINY.layers)  # five pairs of weight and bias less
    for name, tensor in one.state_dict().items():
        if "switchable_bn" not in name:
            assert torch.equal(tensor, six.state_dict()[name]), name


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("switchable", [False, True])
def test_number_of_skipped_sub_blocks_chooses_nothing_else(switchable, frozen):
    supernet, x = supernet_of(switchable).eval(), images()
    silence(supernet)
    run = FixedSupernet(supernet).path if frozen else supernet
    with torch.no_grad():
        equal = torch.allclose(run(x, FIVE), run(x, SIX), rtol=1e-4, atol=1e-6)
    assert equal != switchable


def test_frozen_equals_plain():
    supernet, x = supernet_of(False).eval(), images()
    frozen = FixedSupernet(supernet)
    for path in (FIVE, SIX, [[2, SKIP, SKIP, SKIP, SKIP, SKIP]] * 5):
        with torch.no_grad():
            torch.testing.assert_close(frozen.path(x, path), supernet(x, path), rtol=1e-4, atol=1e-5)
            soft = frozen.soft(x, one_hot(torch.tensor(path)))
            torch.testing.assert_close(soft, supernet(x, path), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gradients", ["zeros", "none"])
def test_every_path_trains_the_one_normalisation(gradients):
    """Each number of skipped sub-blocks moves it and its statistics, as plain SGD with decay says."""
    supernet, y = supernet_of(False).train(), torch.tensor([0, 1, 2, 3])
    sgd = PathSGD(supernet, 0.9, 4e-4, gradients)
    for path in (FIVE, SIX):
        bn = supernet.stages[0].switchable_bn
        weight, mean = bn.weight.detach().clone(), bn.running_mean.clone()
        buffer = sgd.buffers[[p is bn.weight for p in sgd.parameters].index(True)].clone()
        supernet_gradients(supernet, images(), y, [path])
        expected = weight - 0.1 * (0.9 * buffer + bn.weight.grad + 4e-4 * weight)
        sgd.step(0.1, [path])
        torch.testing.assert_close(bn.weight.detach(), expected)
        assert not torch.equal(bn.running_mean, mean)


def test_files(tmp_path):
    """A file without a word on the form holds six; weights and form that disagree are refused, in one line."""
    save_supernet(tmp_path, supernet_of(True), "digits")
    about = json.loads((tmp_path / "supernet.json").read_text())
    about.pop("switchable_bn")
    (tmp_path / "supernet.json").write_text(json.dumps(about))
    assert load_supernet(tmp_path, switchable_bn=True).switchable_bn
    (tmp_path / "supernet.json").write_text(json.dumps({**about, "switchable_bn": False}))
    with pytest.raises(UserError, match="switchable_bn") as caught:
        load_supernet(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="the authors' code knows no supernet"):
        supernet_to_published({}, supernet_of(False))


@pytest.mark.parametrize("zero_grad", ["zeros", "none"])
def test_decay_of_operations_used_earlier(zero_grad):
    """Without gradients and momentum only decay moves: what is used, and with zeros what was used before."""
    supernet = supernet_of(True)
    before = {name: tensor.clone() for name, tensor in supernet.named_parameters()}
    optimizer = PathSGD(supernet, 0.0, 0.5, zero_grad)
    for path in ([[0] * 6] * 5, [[1] * 5 + [SKIP]] * 5):
        zero_gradients(supernet)
        optimizer.step(0.1, [path])
    again = 0.95**2 if zero_grad == "zeros" else 0.95
    parameters = dict(supernet.named_parameters())
    factors = {"depthwise.0": [again], "depthwise.1": [0.95] * 5 + [1.0], "depthwise.2": [1.0]}
    factors["switchable_bn.weight"] = [again, 0.95, 1.0, 1.0, 1.0, 1.0]
    for name, rows in factors.items():
        key = f"stages.0.{name}"
        found, first = parameters[key].detach(), before[key]
        repeated = torch.tensor(rows).repeat_interleave(len(first) // len(rows)).view(-1, *[1] * (first.dim() - 1))
        torch.testing.assert_close(found, first * repeated)
    torch.testing.assert_close(parameters["classifier.weight"].detach(), before["classifier.weight"] * 0.95**2)
