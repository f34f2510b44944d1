"""Which network a file of weights is of, and on which set it is tested: the authors' containers and our own files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.cli.errors import UserError
from common.weights.read import read_metadata, save_weights
from papers.nao_v2.evaluate import build, opened, read_checkpoint, set_of
from papers.nao_v2.network.architectures import PUBLISHED_TEXT, as_file, parse, text_of
from papers.nao_v2.network.network import Network
from papers.nao_v2.settings import Evaluate

GOLDEN = Path(__file__).parents[1] / "golden" / "nao_v2" / "data"
OPTIONS = SimpleNamespace(data=None, allow_unpinned=False)
PINNED = {
    "nao-v2-cifar10": ("cifar_naonet_v2_36", "NAONet_V2", "cifar10", 36, 6),
    "nao-v2-imagenet": ("imagenet_naonet_v2_52", "NAONet_V2", "imagenet", 52, 4),
    "nao-v2-cifar10-2019": (None, "NAONet_V2_2019_09_11", "cifar10", 36, 6),
}


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
    network, architecture, space, *shape = build(c, stored, stored.classes, stored.kind)
    assert (text_of(architecture), space, shape) == (PUBLISHED_TEXT[text], "small", [channels, layers])
    assert network.state_dict().keys() == {k for k in model if not k.startswith("auxiliary_head.")}
    with pytest.raises(UserError, match=f"is of {dataset}, but --dataset digits"):
        opened(Evaluate(checkpoint=str(path), dataset="digits"), OPTIONS)


def own(tmp_path: Path, **changes: object) -> tuple[Path, Network]:
    """Weights as a training on digits leaves them."""
    architecture = parse(PUBLISHED_TEXT["NAONet_B"])
    network = Network(architecture, channels=4, layers=1, auxiliary=True)
    metadata = {
        "paper": "nao_v2", "architecture": as_file(architecture, "small"), "space": "small", "dataset": "digits",
        "classes": 10, "class_names": list("0123456789"), "width": 4, "depth": 1, **changes,
    }  # fmt: skip
    save_weights(network, tmp_path / "weights.safetensors", metadata)
    return tmp_path / "weights.safetensors", network


def test_own_weights_say_what_they_are(tmp_path):
    path, network = own(tmp_path)
    assert read_metadata(path)["dataset"] == "digits"
    test, (built, architecture, *shape), _, dataset = opened(Evaluate(checkpoint=str(path)), OPTIONS)
    assert (dataset, len(test), text_of(architecture), shape) == (
        "digits",
        1000,
        PUBLISHED_TEXT["NAONet_B"],
        ["small", 4, 1],
    )
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(built.eval()(x), network.eval()(x))


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
        opened(Evaluate(checkpoint=str(path), **asked), OPTIONS)
    assert "\n" not in str(error.value)


def test_another_number_of_classes_stops(tmp_path):
    torch.save(
        Network(parse(PUBLISHED_TEXT["NAONet_V2"]), channels=4, layers=1, classes=7).state_dict(), tmp_path / "w.pt"
    )
    with pytest.raises(UserError, match="tells 7 classes apart, digits has 10"):
        opened(Evaluate(checkpoint=str(tmp_path / "w.pt"), dataset="digits"), OPTIONS)
    with pytest.raises(UserError, match="does not say which set"):
        opened(Evaluate(checkpoint=str(tmp_path / "w.pt")), OPTIONS)
