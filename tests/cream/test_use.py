"""``architecture`` and ``network`` of Cream: what people give, and what they do with the module."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from common.errors import UserError
from papers.cream import architecture, network
from papers.cream.networks.architectures import PUBLISHED
from tests.cream.tools import described
from tests.plain import check_plain, counted, run_readme

PATH = PUBLISHED["43"]


@pytest.mark.parametrize(
    "given",
    [
        PATH,
        tuple(map(tuple, PATH)),
        str(PATH),
        str(tuple(map(tuple, PATH))),
        "((0), (3), (3, 1), (3, 1), (3, 3, 3), (3, 3), (0))",
        " [[0], [3],\n [3, 1], [3, 1], [3, 3, 3], [3, 3], [0]]\n",
    ],
)
def test_a_path_as_people_write_it(given, tmp_path):
    assert architecture(given).path == PATH
    if isinstance(given, str):
        (tmp_path / "found.txt").write_text(given)
        assert architecture(tmp_path / "found.txt").path == architecture(str(tmp_path / "found.txt")).path == PATH


def test_names_and_files(tmp_path, searched):
    for name, canonical in (("287", "287"), (287, "287"), ("285M", "287"), ("600", "604")):
        assert (architecture(name).name, architecture(name).path) == (canonical, PUBLISHED[canonical])
    (tmp_path / "plain.json").write_text(json.dumps(PATH))
    assert architecture(tmp_path / "plain.json").path == PATH
    folder, result = searched
    found = architecture(folder)
    assert found.path == architecture(folder / "architecture.json").path == result["architecture"]["path"]
    assert (found.dataset, found.classes) == ("digits", 10)
    assert architecture(found) is found
    assert network(found)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[[0],[3],[3,9],[3],[3],[3],[0]]", "stage 2: unknown choice 9 at position 1"),
        ([[0], [3], [3, "x"], [3], [3], [3], [0]], "stage 2: unknown choice 'x' at position 1"),
        ("[[0],[3],[3]]", "7 lists (stages 0 to 6); 3 are given"),
        ("[[0],[3", "line 1, column"),
        ("[[0],[3],[three],[3],[3],[3],[0]]", "line 1, column 11: three is no plain value"),
        ("23", "never its architecture"),
        ("288", "unknown architecture"),
        ("absent.json", "unknown architecture"),
    ],
)
def test_what_is_wrong_is_named(given, said):
    with pytest.raises(UserError, match=re.escape(said)):
        architecture(given)


@pytest.mark.parametrize(("name", "side"), [("14", 64), ("287", 96)])
def test_hooks_count_what_describe_counts(name, side):
    net, said = network(name, classes=10), described(name)
    assert counted(network(name), torch.zeros(1, 3, said["resolution"], said["resolution"])) == said["macs"]
    assert sum(p.numel() for p in network(name).parameters()) == said["parameters"]
    assert net(torch.zeros(1, 3, side, side)).shape == (1, 10)


def test_plain_module():
    check_plain(network("14", dataset="cifar10"), 64, 10)


def test_own_weights(trained, tmp_path):
    folder, _ = trained
    file = folder / "weights.safetensors"
    net = network(weights=file)
    assert net.classifier.out_features == 10
    other = network(file)
    other.load_state_dict(load_file(file))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(images), other(images))
        torch.testing.assert_close(network(weights=folder)(images), other(images))
    with pytest.raises(UserError, match="a classifier of 10 classes, 5 are asked for"):
        network(weights=file, classes=5)
    with pytest.raises(UserError, match=r"another network|does not fit"):
        network("287", weights=file)
    shutil.copy(file, tmp_path / "copy.safetensors")
    assert network(weights=tmp_path / "copy.safetensors", dataset="digits").classifier.out_features == 10


def test_pretrained(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    with pytest.raises(UserError, match="python -m reproductions checkpoints fetch cream-14"):
        network("14", pretrained=True)
    (tmp_path / "checkpoints").mkdir()
    state = network("14").state_dict()
    torch.save(
        {"epoch": 591, "arch": "x", "state_dict": state, "state_dict_ema": state}, tmp_path / "checkpoints/cream-14"
    )
    assert network("14", pretrained=True).classifier.out_features == 1000
    with pytest.raises(UserError, match="classifier of 1000 classes, 10"):
        network("14", pretrained=True, dataset="cifar10")
    with pytest.raises(UserError, match="pretrained weights are those of"):
        network(PATH, pretrained=True)


def test_folders(class_folders):
    net = network("14", dataset=str(class_folders))
    assert net.classifier.out_features == 2
    with pytest.raises(UserError, match="elsewhere"):
        network("14", dataset="elsewhere")


def test_readme():
    run_readme("cream")
