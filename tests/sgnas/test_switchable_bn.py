"""The ablation of the switchable normalisation: one for all numbers of skipped sub-blocks in place of six."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from common.cli.errors import UserError
from common.cli.verbs import RunOptions
from papers.sgnas.method.lookup import one_hot
from papers.sgnas.method.scoring import recalibrated
from papers.sgnas.method.supernet_training import PathSGD, supernet_gradients
from papers.sgnas.network.architectures import MACROS, SKIP
from papers.sgnas.network.fixed_supernet import FrozenSupernet
from papers.sgnas.network.supernet import Supernet, load_supernet, save_supernet, supernet_to_published
from papers.sgnas.search import search, search_generator, search_supernet
from papers.sgnas.settings import EvolveSettings
from papers.sgnas.studies.evolve import evolve
from tests.sgnas.test_search import SMALL

TINY = MACROS["tiny"]
ONE = replace(SMALL, switchable_bn=False, generator_epochs=1)
FIVE = [[0, 1, 2, 0, 1, SKIP]] * 5
SIX = [[0, 1, 2, 0, 1, 2]] * 5


def options(out, section: str = "search") -> RunOptions:
    return RunOptions(out=out, device="cpu", paper="sgnas", section=section)


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
    run = FrozenSupernet(supernet).path if frozen else supernet
    with torch.no_grad():
        equal = torch.allclose(run(x, FIVE), run(x, SIX), rtol=1e-4, atol=1e-6)
    assert equal != switchable


def test_frozen_equals_plain():
    supernet, x = supernet_of(False).eval(), images()
    frozen = FrozenSupernet(supernet)
    for path in (FIVE, SIX, [[2, SKIP, SKIP, SKIP, SKIP, SKIP]] * 5):
        with torch.no_grad():
            torch.testing.assert_close(frozen.path(x, path), supernet(x, path), rtol=1e-4, atol=1e-5)
            soft = frozen.soft(x, one_hot(torch.tensor(path)))
            torch.testing.assert_close(soft, supernet(x, path), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gradients", ["zero", "none"])
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


def test_recalibration():
    class Batches:
        def epoch(self, number):
            return iter([(images(), None), (images() + 1, None)])

    supernet = supernet_of(False)
    bn = recalibrated(supernet, FIVE, Batches(), 2).stages[0].switchable_bn
    seen = []
    supernet.stages[0].switchable_bn.register_forward_pre_hook(lambda _, given: seen.append(given[0].mean((0, 2, 3))))
    with torch.no_grad():
        for x, _ in Batches().epoch(0):
            supernet.train()(x, FIVE)
    torch.testing.assert_close(bn.running_mean[0], torch.stack(seen).mean(0), rtol=1e-4, atol=1e-5)


def test_search_evolve_and_other_form_refused(tmp_path):
    result = search(ONE, options(tmp_path / "one"))
    assert load_supernet(tmp_path / "one").stages[0].switchable_bn.weight.shape == (1, TINY.layers[0][0])
    assert result["fingerprint"] != search(replace(ONE, switchable_bn=True), options(tmp_path / "six"))["fingerprint"]
    with pytest.raises(UserError, match="switchable_bn"):  # the folder holds a run of the other form
        search(replace(ONE, switchable_bn=True), options(tmp_path / "one"))
    small = EvolveSettings(
        supernet=str(tmp_path / "one"), dataset="digits", search_images=32, targets=(3.0,), population=2, generations=1
    )
    evolve(replace(small, recalibrate=1, parents=1, tolerance=0.2), options(tmp_path / "evolve", "evolve"))
    for name, switchable, word in (("one", True, "one normalisation"), ("six", False, "six switchable")):
        other = replace(ONE, switchable_bn=switchable, supernet=str(tmp_path / name))
        with pytest.raises(UserError, match=f"is a supernet with {word}") as caught:
            search_generator(other, options(tmp_path / f"from-{name}"))
        assert "\n" not in str(caught.value)


def test_resumes_to_the_same_weights(tmp_path, monkeypatch):
    from papers.sgnas import search as module

    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    search_supernet(ONE, options(tmp_path / "whole"))
    original, calls = module.supernet_gradients, []

    def interrupted(*given):
        calls.append(1)
        if len(calls) == 2:
            raise InterruptedError
        return original(*given)

    monkeypatch.setattr(module, "supernet_gradients", interrupted)
    with pytest.raises(InterruptedError):
        search_supernet(ONE, options(tmp_path / "run"))
    monkeypatch.setattr(module, "supernet_gradients", original)
    search_supernet(ONE, options(tmp_path / "run"))
    name = "supernet.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


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
