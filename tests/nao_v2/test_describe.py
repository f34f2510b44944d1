"""Counts in closed form against built networks, and pictures of cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.cli.verbs import main
from common.errors import UserError
from common.spaces.architecture import save_architecture
from common.weights.read import save_weights
from papers.nao_v2.__main__ import VERBS
from papers.nao_v2.describe import describe
from papers.nao_v2.networks.architectures import (
    PUBLISHED_TEXT,
    SPACES,
    Shape,
    as_file,
    load,
    parse,
    random_architecture,
)
from papers.nao_v2.networks.derived import Network
from papers.nao_v2.networks.size import size_of
from papers.nao_v2.settings import Describe


def described(name: str, dataset: str = "") -> dict:
    return describe(Describe(arch=name, dataset=dataset))


@pytest.mark.parametrize("space", ["small", "middle"])
@pytest.mark.parametrize("kind", ["cifar", "imagenet"])
def test_closed_form_equals_the_built_network(space, kind):
    rng = np.random.RandomState(5)
    for _ in range(4):
        architecture = random_architecture(rng, len(SPACES[space]))
        network = Network(architecture, Shape(kind=kind, channels=6, layers=1, classes=7, space=space), auxiliary=True)
        found = size_of(architecture, Shape(kind=kind, channels=6, layers=1, classes=7, space=space))
        total = sum(p.numel() for p in network.parameters())
        assert found.parameters_with_auxiliary == total
        assert found.parameters == total - sum(p.numel() for p in network.auxiliary_head.parameters())


def test_macs_are_those_of_a_forward_pass():
    from torch.utils.flop_counter import FlopCounterMode

    for text in PUBLISHED_TEXT.values():
        network = Network(parse(text), Shape(channels=8, layers=1)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.randn(1, 3, 32, 32))
        assert size_of(parse(text), Shape(channels=8, layers=1)).macs == counter.get_total_flops() // 2


def test_describe():
    found = described("NAONet_V2", "cifar10")
    assert (found["parameters"], found["macs"]) == (4_387_654, 684_238_464)
    widths = {40: 4_382_860, 42: 4_780_915, 44: 5_196_014, 46: 5_628_157, 48: 6_077_344, 52: 7_026_850}
    assert {c: described(f"NAONet_V2-{c}", "imagenet")["parameters"] for c in widths} == widths
    with pytest.raises(UserError, match="unknown data set"):
        described("NAONet_V2", "mnist")


def test_describe_takes_the_set_of_the_file(tmp_path):
    for origin, classes in (({"dataset": "cifar100"}, 100), ({"dataset": "some/folder@32", "classes": 7}, 7), ({}, 10)):
        save_architecture(tmp_path / "a.json", "nao", as_file(load("NAONet_V2"), "small"), origin)
        found = described(str(tmp_path / "a.json"))
        assert found["classes"] == classes
        assert found["parameters"] == size_of(load("NAONet_V2"), Shape(classes=classes)).parameters
    assert described(str(tmp_path / "a.json"), "imagenet")["parameters"] == 7_026_850


@pytest.mark.parametrize("kind", ["cifar", "imagenet"])
def test_describe_takes_own_weights_at_their_size(tmp_path, kind):
    architecture, path = load("NAONet_B"), tmp_path / "w.safetensors"
    network = Network(architecture, Shape(kind=kind, channels=4, layers=1, classes=7))
    about = {"architecture": as_file(architecture, "small"), "space": "small", "dataset": "a/b", "classes": 7}
    save_weights(network, path, {**about, "paper": "nao_v2", "width": 4, "depth": 1, "network": kind, "pixels": 64})
    found = described(str(path))
    size = size_of(architecture, Shape(kind=kind, channels=4, layers=1, classes=7), image=64)
    assert (found["parameters"], found["macs"], found["dataset"]) == (size.parameters, size.macs, "a/b")
    assert found["parameters"] == sum(p.numel() for p in network.parameters())
    save_weights(network, path, {**about, "paper": "evnas"})
    with pytest.raises(UserError, match="does not hold weights that train of nao_v2 wrote"):
        described(str(path))


def test_draw(tmp_path):
    main("nao_v2", VERBS, ["draw", "NAONet_V2_2019_09_23", "--format", "dot", "--out", str(tmp_path)])
    text = (tmp_path / "normal.dot").read_text()
    assert text.count('label="sep3"') == 5 and '"c_{k-1}" -> "c_{k}"' in text  # a loose input leads to the output
    assert (tmp_path / "reduction.dot").exists()
