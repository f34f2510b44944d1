"""``architecture`` and ``network`` of SGNAS: what people give, and what they do with the module."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common.errors import UserError
from papers.sgnas import architecture, network
from papers.sgnas.describe import description
from papers.sgnas.networks.architectures import MACROS, PUBLISHED, SGNAS_C
from papers.sgnas.networks.derived import Network
from papers.sgnas.networks.published_keys import Published
from tests.plain import check_plain, counted, run_readme
from tests.sgnas.small import KERNELS, command

WORDS = " ".join("".join(map(str, row)) for row in SGNAS_C)


@pytest.mark.parametrize(
    "given",
    [
        SGNAS_C,
        tuple(map(tuple, SGNAS_C)),
        str(SGNAS_C),
        str(tuple(map(tuple, SGNAS_C))),
        WORDS,
        WORDS.replace(" ", ", "),
        WORDS.replace(" ", "\n") + "\n",
        str(WORDS.split()),
        json.dumps({"kernels": SGNAS_C, "macro": "cifar"}),
    ],
)
def test_kernel_lists_as_people_write_them(given, tmp_path):
    assert architecture(given).kernels == SGNAS_C
    if isinstance(given, str):
        (tmp_path / "found.txt").write_text(given)
        assert architecture(tmp_path / "found.txt").kernels == SGNAS_C
        assert description(given, "cifar100")["parameters"] == description("SGNAS-C", "cifar100")["parameters"]


def test_names_and_files(tmp_path, searched):
    assert architecture("SGNAS-A").kernels == architecture("sgnas_a").kernels == PUBLISHED["SGNAS-A"]
    (tmp_path / "plain.json").write_text(json.dumps(SGNAS_C))
    assert architecture(tmp_path / "plain.json").kernels == SGNAS_C
    found = architecture(searched)
    assert found.kernels == architecture(str(searched / "architecture.json")).kernels
    assert (found.macro, found.dataset, found.classes) == ("tiny", "digits", 10)
    assert architecture(found) is found
    assert network(found)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (WORDS.replace("3557", "3547"), "layer 6 is [3, 5, 4, 7] (sub-block 2 is 4)"),
        ([*SGNAS_C[:18], [3, "x"]], "layer 18 is [3, 'x'] (sub-block 1 is 'x')"),
        ([*SGNAS_C[:18], []], "layer 18 is []; use 1 to 6"),
        (SGNAS_C[:4], "4 layers, but the imagenet macro structure has 19"),
        ([3.5] * 19, "layer 0 is 3.5"),
        ("[[3, 5", "line 1, column"),
        ("SGNAS-D", "no architecture 'SGNAS-D'"),
        ("absent.json", "no architecture"),
    ],
)
def test_what_is_wrong_is_named(given, said):
    with pytest.raises(UserError, match=re.escape(said)):
        architecture(given)


@pytest.mark.parametrize(("name", "dataset"), [("SGNAS-A", "imagenet"), ("SGNAS-C", "cifar100")])
def test_hooks_count_what_describe_counts(name, dataset):
    net, said = network(name, dataset=dataset), description(name, dataset)
    assert counted(net, torch.zeros(1, 3, said["input_size"], said["input_size"])) == said["macs"]
    assert sum(p.numel() for p in net.parameters()) == said["parameters"]
    assert net.classifier.out_features == said["classes"]


@pytest.mark.parametrize("dataset", ["imagenet", "cifar10"])
def test_plain_module(dataset):
    check_plain(network(KERNELS, dataset=dataset, classes=7), 32, 7)


@pytest.mark.parametrize(("se", "activation"), [(True, "hswish"), (False, "relu")])
def test_the_same_function_as_the_form_that_trains(se, activation):
    made = Network(MACROS["tiny"], KERNELS, 10, se, activation).eval()
    net = network(KERNELS, classes=10, se=se, activation=activation)
    net.load_state_dict(Published(made).state_dict())
    images = torch.randn(2, 3, 32, 32)
    for train in (False, True):
        made.train(train), net.train(train)
        made.dropout = net.classifier[0].p = 0.0
        with torch.no_grad():
            torch.testing.assert_close(net(images), made(images), rtol=1e-4, atol=1e-5)
    for name, value in Published(made).state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], value, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sgnas")
    (folder / "kernels.json").write_text(json.dumps(KERNELS))
    command(
        "train", "--arch", folder / "kernels.json", "--dataset", "digits", "--macro", "tiny", "--epochs", 1,
        "--train-images", 32, "--batch-size", 16, "--out", folder / "train",
    )  # fmt: skip
    return folder / "train"


def test_own_weights(own):
    file = own / "weights.safetensors"
    net, other = network(weights=file), network(file)
    other.load_state_dict(load_file(file))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(images), other(images))
        torch.testing.assert_close(network(weights=own)(images), other(images))
    assert net.classifier.out_features == 10
    said = description(str(file))
    assert (said["dataset"], said["parameters"]) == ("digits", sum(p.numel() for p in net.parameters()))
    with pytest.raises(UserError, match="a classifier of 10 classes, 5 are asked for"):
        network(weights=file, classes=5)
    with pytest.raises(UserError, match="another architecture than SGNAS-A"):
        network("SGNAS-A", weights=file)
    with pytest.raises(UserError, match="has se False"):
        network(weights=file, se=True)


def test_pretrained(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    with pytest.raises(UserError, match="python -m reproductions checkpoints fetch sgnas-c"):
        network("SGNAS-C", pretrained=True)
    (tmp_path / "checkpoints").mkdir()
    state = network("SGNAS-C").state_dict()
    torch.save(
        {"epoch": 1, "arch": "x", "state_dict": state, "state_dict_ema": state}, tmp_path / "checkpoints/sgnas-c"
    )
    assert network("SGNAS-C", pretrained=True).classifier.out_features == 1000
    with pytest.raises(UserError, match="classifier of 1000 classes, 10"):
        network("SGNAS-C", pretrained=True, dataset="cifar10")
    with pytest.raises(UserError, match="pretrained weights are those of"):
        network(SGNAS_C, pretrained=True)


def test_folders(tree):
    assert network("SGNAS-C", dataset=str(tree / "tree")).classifier.out_features == 3
    with pytest.raises(UserError, match="elsewhere"):
        network("SGNAS-C", dataset="elsewhere")


def test_readme():
    run_readme("sgnas")
