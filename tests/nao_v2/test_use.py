"""``architecture`` and ``network`` of NAO: what people give, and what they do with the module."""

from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common.cli.verbs import main
from common.errors import UserError
from common.spaces.architecture import save_architecture
from papers.nao_v2 import architecture, network
from papers.nao_v2.__main__ import VERBS
from papers.nao_v2.describe import describe
from papers.nao_v2.networks.architectures import PUBLISHED_TEXT, VERSION_1_TEXT, Shape, as_file, parse
from papers.nao_v2.networks.derived import Network
from papers.nao_v2.settings import Describe
from tests.plain import check_plain, counted, run_readme

TEXT = PUBLISHED_TEXT["NAONet_V2"]
NUMBERS = [int(word) for word in TEXT.split()]
CELLS = parse(TEXT)
NODES = [NUMBERS[i : i + 4] for i in range(0, 40, 4)]


@pytest.mark.parametrize(
    "given",
    [
        NUMBERS,
        CELLS,
        [NODES[:5], NODES[5:]],
        TEXT,
        TEXT.replace(" ", ","),
        TEXT.replace(" ", ", "),
        str(NUMBERS),
        str(CELLS),
        str([NODES[:5], NODES[5:]]),
        f'"{TEXT}"',
        "\n".join(" ".join(map(str, node)) for node in NODES) + "\n",
    ],
)
def test_sequences_as_people_write_them(given, tmp_path):
    found = architecture(given)
    assert found == CELLS and found.name == "NAONet_V2" and found.text == TEXT
    if isinstance(given, str):
        (tmp_path / "found.txt").write_text(given)
        assert architecture(tmp_path / "found.txt") == CELLS
        assert describe(Describe(arch=given))["macs"] == describe(Describe())["macs"]
        assert describe(Describe(arch=str(tmp_path / "found.txt")))["macs"] == describe(Describe())["macs"]


def test_names_and_files(tmp_path):
    assert architecture("NAONet-V2") == architecture("naonet_v2") == architecture("NAONet_V2") == CELLS
    assert architecture("NAONet_V2-44").channels == 44
    (tmp_path / "plain.json").write_text(json.dumps(NUMBERS))
    assert architecture(tmp_path / "plain.json") == CELLS
    middle = " ".join(str(v + 4 if i % 2 else v) for i, v in enumerate(NUMBERS))
    said = {"dataset": "digits", "classes": 10, "pixels": 8}
    save_architecture(tmp_path / "architecture.json", "nao", as_file(parse(middle, "middle"), "middle"), said)
    found = architecture(tmp_path)
    assert found == architecture(str(tmp_path / "architecture.json")) == parse(middle, "middle")
    assert (found.space, found.said["dataset"]) == ("middle", "digits") and architecture(found) is found
    for same in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert same == found and same.space == "middle"
    assert network(found, channels=4, layers=1)(torch.zeros(1, 3, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (TEXT.replace("1 1 0 1 2 4", "1 1 0 1 2 x"), "'x' at position 6 is no integer"),
        ([*NUMBERS[:5], 1.5, *NUMBERS[6:]], "1.5 at position 6 is no integer"),
        ([*NUMBERS[:4], 3, *NUMBERS[5:]], "position 5 (normal cell, node 3) reads state 3"),
        ([*NUMBERS[:5], 5, *NUMBERS[6:]], "position 6 (normal cell, node 3) names operation 5"),
        ([*NUMBERS[:5], 5, *NUMBERS[6:]], "either of space 'middle' or of NAO version 1"),
        (VERSION_1_TEXT, "NAONet_A of NAO version 1"),
        ("NAONet_A", "NAONet_A is of NAO version 1"),
        ("NAONet-A-36", "NAONet-A-36 is of NAO version 1"),
        (" ".join(str(v + 7 if i % 2 else v + 1) for i, v in enumerate(NUMBERS)), "the controller's tokens"),
        (NUMBERS[:20], "20 integers, but two cells of 5 nodes need 40"),
        ("absent.json", "no architecture 'absent.json'"),
    ],
)
def test_what_is_wrong_is_named(given, said):
    with pytest.raises(UserError, match=re.escape(said)):
        architecture(given)


@pytest.mark.parametrize(("dataset", "side"), [("cifar10", 32), ("imagenet", 224)])
def test_hooks_count_what_describe_counts(dataset, side):
    net, said = network("NAONet_V2", dataset=dataset), describe(Describe(dataset=dataset))
    assert counted(net, torch.zeros(1, 3, side, side)) == said["macs"]
    assert sum(p.numel() for p in net.parameters()) == said["parameters"]
    assert net.classifier.out_features == said["classes"]


@pytest.mark.parametrize(("form", "side"), [("cifar", 16), ("imagenet", 64)])
def test_plain_module(form, side):
    check_plain(network("NAONet_V2", channels=4, layers=1, classes=7, form=form), side, 7)


def test_plain_module_of_all_operations():
    middle = "0 2 1 3 0 4 1 5 2 6 3 7 4 8 1 9 0 1 5 2 0 2 1 3 0 4 1 5 2 6 3 7 4 8 1 9 0 1 5 2"
    net = network(middle, space="middle", channels=4, layers=1)
    check_plain(net, 16, 10)
    assert (
        counted(net, torch.zeros(1, 3, 32, 32))
        == describe(Describe(arch=middle, space="middle", channels=4, layers=1))["macs"]
    )


@pytest.mark.parametrize("space", ["small", "middle"])
def test_the_same_function_as_the_form_that_trains(space):
    text = TEXT if space == "small" else "0 2 1 3 0 4 1 5 2 6 3 7 4 8 1 9 0 1 5 2 " * 2
    shape = Shape("cifar", 4, 1, 10, space)
    made = Network(parse(text, space), shape, auxiliary=True)
    net = network(text, space=space, channels=4, layers=1, auxiliary=True)
    net.load_state_dict(made.state_dict())
    images = torch.randn(4, 3, 32, 32)
    for one, other in zip(net.train()(images), made.train()(images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(net.eval()(images), made.eval()(images), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nao")
    words = "train --dataset digits --train-images 96 --layers 1 --channels 2 --epochs 1 --batch-size 48 --auxiliary"
    main("nao_v2", VERBS, [*words.split(), "--out", str(folder / "train")])
    return folder / "train"


def test_own_weights(own):
    file = own / "weights.safetensors"
    net = network(weights=file)
    other = network(file)
    assert any(name.startswith("auxiliary_head.") for name in load_file(file))
    other.load_state_dict(load_file(file))
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(net(images), other(images))
        torch.testing.assert_close(network(weights=own)(images), other(images))
        torch.testing.assert_close(network(weights=file, auxiliary=True)(images), other(images))
    assert len(network(weights=file, auxiliary=True).train()(torch.randn(2, 3, 32, 32))) == 2
    with pytest.raises(UserError, match="a classifier of 10 classes, 5 are asked for"):
        network(weights=file, classes=5)
    with pytest.raises(UserError, match="was asked for"):
        network("NAONet_B", weights=file)
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({})


def test_pretrained(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    with pytest.raises(UserError, match="python -m reproductions checkpoints fetch nao-v2-cifar10"):
        network("NAONet_V2", pretrained=True)
    (tmp_path / "checkpoints").mkdir()
    state = Network(CELLS, Shape(), auxiliary=True).state_dict()
    torch.save({"model": state, "epoch": 599}, tmp_path / "checkpoints/nao-v2-cifar10")
    assert network("NAONet_V2", pretrained=True).classifier.out_features == 10
    with pytest.raises(UserError, match="pretrained weights are those of"):
        network("NAONet_B", pretrained=True)


def test_sets_and_folders(tmp_path):
    from PIL import Image

    for label in "abc":
        for split in ("train", "val"):
            (tmp_path / split / label).mkdir(parents=True)
            Image.new("RGB", (40, 40)).save(tmp_path / split / label / "x.png")
    small = {"channels": 4, "layers": 1}
    assert network("NAONet_V2", dataset=str(tmp_path), **small).classifier.out_features == 3
    assert network("NAONet_V2", dataset=str(tmp_path), form="imagenet", **small).stem1 is not None
    assert network("NAONet_V2", dataset="cifar100", **small).classifier.out_features == 100
    with pytest.raises(UserError, match="elsewhere"):
        network("NAONet_V2", dataset="elsewhere")


def test_readme():
    run_readme("nao_v2")
