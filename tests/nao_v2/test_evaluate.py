"""Which network a file of weights is of, and on which set it is tested: the authors' containers and our own files."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.weights.read import read_metadata, save_weights
from papers.nao_v2.evaluate import build, open_checkpoint, read_checkpoint, set_of, width_of
from papers.nao_v2.networks.architectures import PUBLISHED_TEXT, Shape, as_file, parse, text_of
from papers.nao_v2.networks.derived import Network
from papers.nao_v2.settings import Evaluate

GOLDEN = Path(__file__).parents[1] / "golden" / "nao_v2" / "data"


OPTIONS = SimpleNamespace(data=None, allow_unpinned=False)


PINNED = {
    "nao-v2-cifar10": ("cifar_naonet_v2_36", "NAONet_V2", "cifar10", 36, 6),
    "nao-v2-imagenet": ("imagenet_naonet_v2_52", "NAONet_V2", "imagenet", 52, 4),
    "nao-v2-cifar10-2019": (None, "NAONet_V2_2019_09_11", "cifar10", 36, 6),
}


PUBLISHED = PUBLISHED_TEXT["NAONet_V2"]


def published(name: str) -> dict[str, torch.Tensor]:
    """Tensors under the published keys."""
    keys, text, *_ = PINNED[name]
    if keys is None:
        return Network(parse(PUBLISHED_TEXT[text]), auxiliary=True).state_dict()
    listed = json.loads((GOLDEN / f"state_dict_{keys}.json").read_text())["keys"]
    return {k: torch.zeros(shape, dtype=torch.long if k.endswith("tracked") else None) for k, shape in listed}


@pytest.mark.parametrize("name", PINNED)
def test_pinned_checkpoints_in_their_container(tmp_path, name):
    """args, model, epoch, step, optimizer and a NumPy scalar: architecture, width, depth and set are found."""
    _, text, dataset, channels, layers = PINNED[name]
    path, model = tmp_path / name, published(name)
    arguments = argparse.Namespace(arch=PUBLISHED_TEXT[text], channels=channels, layers=layers, nodes=5, dataset="any")
    beside = {"args": arguments, "epoch": 599, "step": 9, "optimizer": {"param_groups": []}}
    torch.save(
        {"model": {f"module.{k}": v for k, v in model.items()}, **beside, "best_acc_top1": np.float64(97.4)}, path
    )
    stored, c = read_checkpoint(path), Evaluate(checkpoint=str(path))
    assert set_of(c, stored) == dataset
    network, architecture, shape = build(c, stored)
    assert text_of(architecture) == PUBLISHED_TEXT[text]
    assert (shape.space, shape.channels, shape.layers) == ("small", channels, layers)
    assert network.state_dict().keys() == {k for k in model if not k.startswith("auxiliary_head.")}
    with pytest.raises(UserError, match=f"is of {dataset}, but --dataset digits"):
        open_checkpoint(Evaluate(checkpoint=str(path), dataset="digits"), OPTIONS)


def synthetic(path, text=PUBLISHED, channels=4, layers=1, **arguments):
    """A file as the original writes it."""
    network = Network(parse(text), Shape(channels=channels, layers=layers), auxiliary=True)
    stored = argparse.Namespace(**{"arch": text, "channels": channels, "layers": layers, "nodes": 5, **arguments})
    torch.save(
        {
            "args": stored,
            "model": {f"module.{k}": v for k, v in network.state_dict().items()},
            "epoch": 3,
            "step": 9,
            "optimizer": {},
            "best_acc_top1": torch.tensor(97.4),
        },
        path,
    )
    return network


def test_authors_checkpoint(tmp_path):
    path = tmp_path / "checkpoint_best.pt"
    original = synthetic(path).eval()
    stored = read_checkpoint(path)
    assert (stored.architecture, stored.channels, stored.layers, width_of(stored.weights)) == (PUBLISHED, 4, 1, 4)
    settings = Evaluate(checkpoint=str(path))
    network, architecture, shape = build(settings, stored)
    assert (text_of(architecture), shape.channels, shape.layers) == (PUBLISHED, 4, 1)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(network.eval()(x), original(x))
    build(replace(settings, arch="NAONet_V2", channels=4, layers=1), stored)
    with pytest.raises(UserError, match="is of architecture"):
        build(replace(settings, arch="NAONet_B"), stored)
    with pytest.raises(UserError, match="channels 4, but 36"):
        build(replace(settings, channels=36), stored)
    with pytest.raises(UserError, match="layers 1, but 6"):
        build(replace(settings, layers=6), stored)


def test_weights_without_arguments_are_recognised(tmp_path):
    path = tmp_path / "bare.pt"
    text = PUBLISHED_TEXT["NAONet_V2_2019_09_11"]
    torch.save(Network(parse(text), Shape(channels=4, layers=1)).state_dict(), path)
    settings = Evaluate(checkpoint=str(path))
    _, architecture, shape = build(settings, read_checkpoint(path))
    assert (text_of(architecture), shape.channels, shape.layers) == (text, 4, 1)
    with pytest.raises(UserError, match="does not fit"):
        build(replace(settings, arch="NAONet_V2"), read_checkpoint(path))


def own(tmp_path: Path, **changes: object) -> tuple[Path, Network]:
    """Weights as a training on digits leaves them."""
    architecture = parse(PUBLISHED_TEXT["NAONet_B"])
    network = Network(architecture, Shape(channels=4, layers=1), auxiliary=True)
    metadata = {
        "paper": "nao_v2", "architecture": as_file(architecture, "small"), "space": "small", "dataset": "digits",
        "classes": 10, "class_names": list("0123456789"), "width": 4, "depth": 1, **changes,
    }  # fmt: skip
    save_weights(network, tmp_path / "weights.safetensors", metadata)
    return tmp_path / "weights.safetensors", network


def test_own_weights_say_what_they_are(tmp_path):
    path, network = own(tmp_path)
    assert read_metadata(path)["dataset"] == "digits"
    found = open_checkpoint(Evaluate(checkpoint=str(path)), OPTIONS)
    assert (found.dataset, len(found.test), text_of(found.architecture)) == ("digits", 1000, PUBLISHED_TEXT["NAONet_B"])
    assert (found.shape.space, found.shape.channels, found.shape.layers) == ("small", 4, 1)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(found.network.eval()(x), network.eval()(x))


@pytest.mark.parametrize(
    ("asked", "stored", "words"),
    [
        ({"dataset": "cifar10"}, {}, "is of digits, but --dataset cifar10"),
        ({"arch": "NAONet_V2"}, {}, "is of architecture"),
        ({"space": "middle"}, {}, "is of space 'small'"),
        ({"channels": 6}, {}, "channels 4, but 6"),
        ({"layers": 2}, {}, "layers 1, but 2"),
        ({"weights": "ema"}, {}, "--weights ema"),
        ({}, {"paper": "evnas"}, "weights of evnas"),
        ({}, {"class_names": list("abcdefghij")}, "with a class 'a' where digits has '0'"),
    ],
)
def test_what_does_not_fit_own_weights_is_refused(tmp_path, asked, stored, words):
    path, _ = own(tmp_path, **stored)
    with pytest.raises(UserError, match=words) as error:
        open_checkpoint(Evaluate(checkpoint=str(path), **asked), OPTIONS)
    assert "\n" not in str(error.value)


def test_another_number_of_classes_stops(tmp_path):
    torch.save(
        Network(parse(PUBLISHED_TEXT["NAONet_V2"]), Shape(channels=4, layers=1, classes=7)).state_dict(),
        tmp_path / "w.pt",
    )
    with pytest.raises(UserError, match="tells 7 classes apart, digits has 10"):
        open_checkpoint(Evaluate(checkpoint=str(tmp_path / "w.pt"), dataset="digits"), OPTIONS)
    with pytest.raises(UserError, match="does not say which set"):
        open_checkpoint(Evaluate(checkpoint=str(tmp_path / "w.pt")), OPTIONS)
