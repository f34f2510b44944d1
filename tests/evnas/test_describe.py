"""Counts of networks and of the spaces."""

from __future__ import annotations

import pytest

from common.errors import UserError
from common.spaces.architecture import save_architecture
from common.spaces.counting import macs_and_conv_macs, parameters
from common.spaces.darts.genotype import drawn_pairs
from common.weights.read import save_weights
from papers.evnas.describe import describe, space_size
from papers.evnas.networks.architectures import PUBLISHED, build, load_genotype
from papers.evnas.settings import Describe


def test_describe_takes_the_set_of_the_file(tmp_path):
    """Of a search's file its set and classes; of own weights also their width and depth."""
    for origin, classes in (
        ({"dataset": "cifar100"}, 100),
        ({"dataset": "a/b", "classes": 3, "pixels": 40}, 3),
        ({}, 10),
    ):
        save_architecture(tmp_path / "a.json", "darts", PUBLISHED["EvNASB"].as_dict(), origin)
        found = describe(Describe(str(tmp_path / "a.json")))
        network = build(load_genotype("EvNASB"), False, classes)
        assert (found["dataset"], found["classes"]) == (origin.get("dataset", "cifar10"), classes)
        assert found["parameters"] == parameters(network)
        assert found["macs_published"] == macs_and_conv_macs(network, (3, *[origin.get("pixels", 32)] * 2))[1]
    assert describe(Describe(str(tmp_path / "a.json"), "imagenet"))["parameters"] == 5_318_176
    about = {
        "paper": "evnas",
        "architecture": PUBLISHED["EvNASB"].as_dict(),
        "dataset": "a/b",
        "classes": 7,
        "width": 6,
    }
    for stage, imagenet in (("train", False), ("train_imagenet", True)):
        network = build(load_genotype("EvNASB"), imagenet, 7, 6, 3)
        save_weights(network, tmp_path / "w.safetensors", {**about, "depth": 3, "stage": stage})
        assert describe(Describe(str(tmp_path / "w.safetensors")))["parameters"] == parameters(network)
    save_weights(network, tmp_path / "w.safetensors", {"paper": "nao_v2", "architecture": {"text": "1 0"}})
    with pytest.raises(UserError, match="holds weights of nao_v2; give a file of evnas"):
        describe(Describe(str(tmp_path / "w.safetensors")))


def test_counts_of_the_space_and_the_drawing():
    assert space_size("darts") == (180 * 7**8) ** 2 and space_size("nb201") == 15625
    edges = drawn_pairs(load_genotype("EvNASA").normal)
    assert edges[0] == ("c_{k-2}", "0", "sep_conv_3x3") and len(edges) == 12
