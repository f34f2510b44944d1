"""``architecture`` and ``network`` of NSAS in its three spaces: what people give, and what they do with the module."""

from __future__ import annotations

import copy
import json
import pickle
import re

import pytest
import torch
from safetensors.torch import load_file

from common.cli.verbs import RunOptions
from common.errors import UserError
from common.spaces.architecture import save_architecture
from common.weights.read import save_weights
from papers.nsas import architecture, network
from papers.nsas.describe import described
from papers.nsas.networks.architectures import CNN, NB201
from papers.nsas.recurrent.architecture import RECURRENT, Recurrent
from papers.nsas.recurrent.model import DerivedCell, Dropouts, LanguageModel
from papers.nsas.recurrent.settings import TrainRecurrent
from papers.nsas.recurrent.train import about_trained
from papers.nsas.settings import Train
from papers.nsas.train import train
from tests.plain import check_plain, counted, run_readme

CELL = RECURRENT["Random_NSAS"]
DARTS_V2 = (
    "Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh', 2), ('sigmoid', 5), "
    "('tanh', 3), ('relu', 5)], concat=range(1, 9))"
)


def test_convolutional_cells_as_people_give_them(tmp_path):
    genotype = CNN["Random_NSAS"]
    text = repr(genotype)
    (tmp_path / "found.txt").write_text(f"genotype = {text}")
    (tmp_path / "found.json").write_text(json.dumps(genotype.as_dict()))
    save_architecture(tmp_path / "architecture.json", "darts", genotype.as_dict())
    for given in (text, str(genotype.as_dict()), tmp_path / "found.txt", tmp_path / "found.json", tmp_path, genotype):
        assert architecture(given) == genotype
    assert architecture("random-nsas") == genotype


def test_cells_of_nasbench201(tmp_path):
    found = architecture("GDAS_NSAS")
    assert found.digits == NB201["GDAS_NSAS"]
    save_architecture(tmp_path / "architecture.json", "nasbench201", str(found))
    naslib = f"naslib: {found.numbers('naslib')}"
    for given in (str(found), found.digits, list(found.operations), " ".join(found.digits), tmp_path, naslib):
        assert architecture(given) == found


def test_recurrent_cells(tmp_path):
    found = architecture(DARTS_V2)
    assert found == Recurrent(
        (
            ("sigmoid", 0), ("relu", 1), ("relu", 1), ("identity", 1), ("tanh", 2), ("sigmoid", 5), ("tanh", 3),
            ("relu", 5),
        ),
        tuple(range(1, 9)),
    )  # fmt: skip
    save_architecture(tmp_path / "architecture.json", "darts-rnn", found.as_names())
    (tmp_path / "found.json").write_text(json.dumps(DARTS_V2))
    (tmp_path / "plain.json").write_text(json.dumps(found.as_names()))
    for given in (found, found.as_names(), str(found.as_names()), tmp_path, *tmp_path.glob("*.json")):
        assert architecture(given) == found
    assert architecture("PTB_Random_NSAS") == CELL


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("Random_NSA", "did you mean 'Random_NSAS'"),
        (DARTS_V2.replace("'relu', 5)]", "'relu', 8)]"), "node 8 reads state 8; it can read states 0 to 7"),
        (DARTS_V2.replace("('tanh', 2), ", ""), "has 7 pairs; it needs 8"),
        (DARTS_V2.replace("identity", "gelu"), "unknown activation 'gelu' in node 4"),
        (DARTS_V2.replace("('tanh', 2)", "('tanh',)"), "pair 4 is ('tanh',)"),
        (DARTS_V2.replace("concat", "concats"), "no 'concats'; did you mean 'concat'"),
        (DARTS_V2.replace("range(1, 9)", "[0]"), "concat must name states between 1 and 8"),
        ("|nor_conv_3x3~0|", "edges by node"),
        ("330325", "operation 5 (edge 3<-2) is 5; coding autodl"),
    ],
)
def test_what_is_wrong_is_named(given, said):
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        architecture(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Random_NSAS", "Random_NSAS_C", "PDARTS"])
@pytest.mark.parametrize("dataset", ["cifar10", "imagenet"])
def test_hooks_count_what_describe_counts(name, dataset):
    said, side = described(name, dataset), 224 if dataset == "imagenet" else 32
    net = network(name, dataset=dataset)
    assert sum(p.numel() for p in net.parameters()) == said["parameters"]
    assert counted(net, torch.zeros(1, 3, side, side)) == said["macs"]


@pytest.mark.parametrize(("dataset", "side"), [("cifar10", 32), ("imagenet16-120", 16)])
def test_hooks_count_cells_of_nasbench201(dataset, side):
    for name in ("GDAS_NSAS", "RandomNAS_NSAS_R"):
        said, net = described(name, dataset), network(name, dataset=dataset)
        assert sum(p.numel() for p in net.parameters()) == said["parameters"]
        assert counted(net, torch.zeros(1, 3, side, side)) == said["macs"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("Random_NSAS", {"layers": 5}),
        ("Random_NSAS_C", {"layers": 5, "form": "imagenet"}),
        ("GDAS_NSAS", {"layers": 1}),
    ],
)
def test_plain_module(given, words):
    check_plain(network(given, channels=4, classes=7, **words), 64 if "form" in words else 32, 7)


def test_own_weights(tmp_path):
    words = {"dataset": "digits", "train_images": 96, "channels": 4, "epochs": 1, "batch_size": 32, "layers": 5}
    options = RunOptions(paper="nsas", section="train", out=tmp_path / "run", device="cpu")
    train(Train(arch="Random_NSAS", **words), options)  # with the auxiliary head, as by default
    file, images = tmp_path / "run" / "weights.safetensors", torch.randn(2, 3, 32, 32)
    net = network(weights=file)
    assert (net.classifier.out_features, len(net.cells), net.training) == (10, 5, False)
    for other in (network("Random_NSAS", channels=4, layers=5), network(file), network(weights=tmp_path / "run")):
        other.load_state_dict(load_file(file))
        with torch.no_grad():
            torch.testing.assert_close(other(images), net(images))
    for wrong, said in (
        ({"classes": 5}, "has a classifier of 10 classes, 5 are asked for"),
        ({"architecture": "XNAS"}, "holds another architecture"),
        ({"channels": 8}, "does not fit"),
    ):
        with pytest.raises(UserError, match=said):
            network(weights=file, **wrong)


def test_the_language_model_as_a_module(tmp_path):
    torch.manual_seed(0)
    theirs = LanguageModel(50, 16, DerivedCell(16, CELL.recurrent, CELL.concat), Dropouts()).eval()
    about = about_trained(CELL, TrainRecurrent(text="kjv", width=16), 50)
    save_weights(theirs, tmp_path / "w.safetensors", about)
    words = torch.randint(50, (7, 3))
    net = network(weights=tmp_path / "w.safetensors")
    net.load_state_dict(load_file(tmp_path / "w.safetensors"))
    with torch.no_grad():
        wanted, hidden, *_ = theirs(words, theirs.start(3))
        torch.testing.assert_close(net(words), wanted, rtol=1e-5, atol=1e-6)
        logits, last = net(words, net.start(3))
        torch.testing.assert_close((logits, last), (wanted, hidden), rtol=1e-5, atol=1e-6)
        first, middle = net(words[:4], net.start(3))
        torch.testing.assert_close(torch.cat([first, net(words[4:], middle)[0]]), wanted, rtol=1e-5, atol=1e-6)
        for other in (
            pickle.loads(pickle.dumps(net)),
            copy.deepcopy(net),
            torch.jit.trace(net, words),
            torch.export.export(net, (words,)).module(),
        ):
            torch.testing.assert_close(other(words), wanted, rtol=1e-5, atol=1e-6)
        with torch.autocast("cpu", torch.bfloat16):
            assert net(words).isfinite().all()
    net.train()(words).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    with pytest.raises(UserError, match="knows 50 words, 10000 are asked for"):
        network(weights=tmp_path / "w.safetensors", classes=10_000)
    with pytest.raises(UserError, match=r"holds no recurrent network|another architecture"):
        network("Random_NSAS", weights=tmp_path / "w.safetensors")


def test_sizes_of_the_language_model():
    said = described("PTB_Random_NSAS")
    assert sum(p.numel() for p in network("PTB_Random_NSAS").parameters()) == said["parameters"]
    assert network(DARTS_V2, classes=20, width=8)(torch.zeros(2, 1, dtype=torch.int64)).shape == (2, 1, 20)
    with pytest.raises(UserError, match="how many words"):
        network(DARTS_V2, dataset="my.txt")
    with pytest.raises(UserError, match="width and classes"):
        network(DARTS_V2, layers=3)
    with pytest.raises(UserError, match="channels"):
        network("XNAS", width=3)


def test_pretrained(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    for name, words, pin in (
        ("Random_NSAS", {}, "nsas-cifar10"),
        ("Random_NSAS_C", {"dataset": "imagenet"}, "nsas-c-imagenet-linear-run2"),
        ("PTB_Random_NSAS", {}, "nsas-ptb"),
    ):
        with pytest.raises(UserError, match=f"checkpoints fetch {pin}"):
            network(name, pretrained=True, **words)
    with pytest.raises(UserError, match="the authors' weights are of"):
        network("GDAS_NSAS", pretrained=True)


def test_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_readme("nsas")


def test_pasted_cells_in_the_shell(tmp_path):
    text, cell = repr(CNN["Random_NSAS"]), str(architecture("GDAS_NSAS"))
    (tmp_path / "found.txt").write_text(text)
    for given in (text, f"{tmp_path}/found.txt"):
        assert described(given)["parameters"] == described("Random_NSAS")["parameters"]
    for given in (cell, architecture(cell).digits, f"autodl: {architecture(cell).operations}"):
        assert described(given)["macs"] == described("GDAS_NSAS")["macs"]
    assert described(DARTS_V2)["parameters"] == described("PTB_Random_NSAS")["parameters"]
