"""``--compile``: refused where it can do nothing, said in results, near the plain form (slow)."""

from __future__ import annotations

import copy
import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from common.cli.verbs import RunOptions, parse
from common.errors import UserError
from common.papers import PAPERS
from common.run import device as devices
from common.run.device import pick_device
from common.spaces.darts.operations import StartsWithReLU
from common.spaces.darts.supernet import Supernet
from common.train import compiling
from common.train.compiling import compile_operations, compile_whole
from papers.evnas.networks.architectures import build, load_genotype
from papers.evnas.train import train
from tests.common.test_every_paper import stages, verbs_of
from tests.evnas.small import TRAIN

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
COMPILE = SimpleNamespace(compile=True, plan=False)


@pytest.mark.parametrize("paper", PAPERS)
def test_it_is_refused_where_it_would_be_ignored(paper):
    taken = set()
    for words, stage in stages(paper):
        words = [*words, "--compile"]
        if stage.compiles:
            taken.add(words[0])
            assert parse(paper, verbs_of(paper), words)[2].compile
        else:
            with pytest.raises(UserError, match="--compile: this command compiles nothing; leave the flag out"):
                parse(paper, verbs_of(paper), words)
    assert {"search", "train", "evaluate"} <= taken


def test_it_is_refused_on_devices_without_one(monkeypatch):
    """On a CPU what torch 2.13's compiler makes of a derived network's backward pass aborts the process."""
    with pytest.raises(UserError, match="--compile is for GPUs: on a CPU the backward passes"):
        pick_device(RunOptions(device="cpu", compile=True))
    assert pick_device(RunOptions(device="cpu")).type == "cpu"
    with pytest.raises(UserError, match="--compile is for GPUs of kind cuda, not for mps"):
        devices.check_compiler(torch.device("mps"))
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--compile needs the package triton"):
        devices.check_compiler(torch.device("cuda"))


def test_a_result_says_it_and_a_run_keeps_to_it(tmp_path, monkeypatch):
    """The network is not compiled here: what counts is what is asked for."""
    calls: list[torch.nn.Module] = []
    monkeypatch.setattr("papers.evnas.train.compile_whole", lambda network, options: calls.append(network))
    monkeypatch.setattr(devices, "check_compiler", lambda device: None)
    from papers.evnas.settings import Train

    settings = Train(**{**TRAIN, "epochs": 1, "train_images": 32})
    options = partial(RunOptions, paper="evnas", section="train", device="cpu", out=tmp_path)
    result = train(settings, options(compile=True))
    assert result["compile"] is True and json.loads((tmp_path / "result.json").read_text())["compile"] is True
    assert len(calls) == 1
    with pytest.raises(UserError, match="compile"):
        train(settings, options())


def test_a_plan_compiles_nothing():
    assert not compiling.asked(SimpleNamespace(compile=True, plan=True)) and not compiling.asked(RunOptions())


def gradients(network, forward, x, y):
    """Two steps: (losses, gradients of the last, logits in eval mode), every draw from the same seed."""
    said = []
    for step in range(2):
        torch.manual_seed(step)
        network.zero_grad()
        outputs = forward(network, x, step)
        loss = sum(cross_entropy(each, y) for each in outputs)
        loss.backward()
        said.append(loss.item())
    found = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    with torch.inference_mode():
        return said, found, forward(network.eval(), x, 0)[0]


def derived(network, x, step):
    network.drop_path_prob = 0.1 * (step + 1)
    return [each for each in network(x) if each is not None]


def path(network, x, step):
    normal, reduce = ([{(edge + step) % 8} for edge in range(14)] for _ in range(2))
    return [network.forward_path(x, normal, reduce)]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.gpu, NO_GPU])])
def test_compiled_networks_are_near_the_plain_ones(backend, monkeypatch):
    """A derived network with drop path and auxiliary head, whole; paths of a supernet, operation by operation."""
    monkeypatch.setattr(compiling, "BACKEND", backend)
    traced = backend == "aot_eager"  # by torch's compiler, without kernels of its making
    device = "cpu" if traced else "cuda"
    network = build(load_genotype("EvNASA"), False, 10, 2, 3, True).train().to(device)
    supernet = Supernet(2, 10, 2).train().to(device)
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    y = torch.arange(4, device=device)
    for plain, forward, how in (
        (network, derived, compile_whole),
        (supernet, path, lambda net, options: compile_operations(net, options, StartsWithReLU)),
    ):
        compiled = copy.deepcopy(plain)
        how(compiled, COMPILE)
        assert list(compiled.state_dict()) == list(plain.state_dict())
        first, second = (gradients(each, forward, x, y) for each in (plain, compiled))
        assert first[0] == pytest.approx(second[0], rel=1e-6 if traced else 1e-5)
        for ours, theirs in zip([*first[1], first[2]], [*second[1], second[2]], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4 if traced else 1e-3, atol=1e-6 if traced else 1e-4)
