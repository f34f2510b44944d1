"""``architecture`` and ``network`` of EvNAS: what people give, and what they do with the module."""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors.torch import load_file

from common.cli.verbs import RunOptions, main
from common.errors import UserError
from common.spaces.architecture import save_architecture
from common.weights.read import save_weights
from papers.evnas import architecture, network
from papers.evnas.__main__ import VERBS
from papers.evnas.describe import describe
from papers.evnas.networks.architectures import PUBLISHED, build
from papers.evnas.settings import Describe, Train
from papers.evnas.train import train
from tests.evnas.small import mistake
from tests.plain import check_plain, counted, run_readme

TEXT = repr(PUBLISHED["EvNASA"])
CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_1x1~2|"
CODE = (3, 0, 1, 1, 4, 2)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"EvNAS_A = {TEXT}",
        f"12/01 08:13:29 AM genotype = {TEXT}",
        str(PUBLISHED["EvNASA"].as_dict()),
        TEXT.replace("(2, 3, 4, 5)", "range(2, 6)"),
        TEXT.replace("(2, 3, 4, 5)", "[np.int64(2), 3, 4, 5]").replace("reduce=", "\n  reduce="),
    ],
)
def test_genotypes_as_people_write_them(text, tmp_path):
    assert architecture(text) == PUBLISHED["EvNASA"]
    (tmp_path / "found.txt").write_text(text)
    (tmp_path / "found.json").write_text(json.dumps(text))
    for file in (tmp_path / "found.txt", tmp_path / "found.json", str(tmp_path / "found.txt")):
        assert architecture(file) == PUBLISHED["EvNASA"]


def test_other_forms_of_genotypes(tmp_path):
    genotype = PUBLISHED["EvNASB"]
    grouped = {k: list(zip(v[::2], v[1::2])) for k, v in (("normal", genotype.normal), ("reduce", genotype.reduce))}
    assert architecture("EvNAS-B") is architecture("EvNASB") is architecture(genotype) is genotype
    assert architecture(grouped) == architecture(str(grouped)) == genotype  # AutoDL groups pairs by node
    assert architecture((genotype.normal, range(2, 6), genotype.reduce, range(2, 6))) == genotype
    (tmp_path / "plain.json").write_text(json.dumps(genotype.as_dict()))
    save_architecture(tmp_path / "architecture.json", "darts", genotype.as_dict())
    for file in (tmp_path / "plain.json", tmp_path / "architecture.json", tmp_path, str(tmp_path)):
        assert architecture(file) == genotype


@pytest.mark.parametrize(
    "given",
    [
        CELL, f"Structure(4 nodes with {CELL})", f"arch: {CELL}, acc 93.2", CELL.replace("|+|", "| + |"), "301142",
        "3 0 1 1 4 2", "(3, 0, 1, 1, 4, 2)", [3, 0, 1, 1, 4, 2], CODE, "autodl: 301142", "naslib: (2, 1, 0, 0, 4, 3)",
        [e.split("~")[0] for e in CELL.replace("+", "").split("|") if e],
        "((('nor_conv_3x3', 0),), (('none', 0), ('skip_connect', 1)), "
        "(('skip_connect', 0), ('avg_pool_3x3', 1), ('nor_conv_1x1', 2)))",
    ],
)  # fmt: skip
def test_cells_of_nasbench201(given):
    found = architecture(given)
    assert (found.operations, str(found), found.digits) == (CODE, CELL, "301142")
    assert found.numbers("naslib") == (2, 1, 0, 0, 4, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("EvNASD", "unknown architecture 'EvNASD'; did you mean 'EvNAS"),
        ("absent.json", "no file absent.json"),
        (TEXT.replace("dil_conv_5x5", "dil_conv_7x7"), "unknown operation 'dil_conv_7x7' (normal, pair 6)"),
        (TEXT.replace("('skip_connect', 0)", "(0, 'skip_connect')"), "pair 4 is (0, 'skip_connect'), the wrong way"),
        (TEXT.replace("('dil_conv_5x5', 3), ", ""), "the normal cell has 7 pairs"),
        (TEXT.replace("reduce=", "reduced="), "no 'reduced'; did you mean 'reduce'"),
        (TEXT[:-30], "line 1, column"),
        (TEXT.replace("'sep_conv_3x3'", "sep_conv_3x3", 1), "sep_conv_3x3 is no plain value; put words in quotes"),
        ("Genotype(normal=[('none', 0)])", "the reduce cell is missing"),
        ("Genotype(normal=[('none', 0)], reduce=[])", "the normal cell has 1 pairs"),
        (CELL.replace("none", "nine"), "edge 1 (2<-0) is 'nine~0'; did you mean 'none'"),
        (CELL.replace("skip_connect~1", "skip_connect~0"), "edge 2 (2<-1) is 'skip_connect~0'; expected op~1"),
        (CELL[:20], "edges by node; expected |op~0|"),
        ("3 0 1 1 4", "5 operations; it has 6"),
        ("(3, 0, 5, 1, 4, 2)", "operation 2 (edge 2<-1) is 5; coding autodl: 0 none, 1 skip_connect"),
        ("naslib: (3, 0, 5, 1, 4, 2)", "operation 2 (edge 3<-0) is 5; coding naslib: 0 skip_connect, 1 none"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(given, said):
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        architecture(given)
    assert "\n" not in str(caught.value)


def test_another_space_is_refused(tmp_path):
    save_architecture(tmp_path / "architecture.json", "cream", [[0]])
    with pytest.raises(UserError, match="is of space 'cream'; evnas reads darts, nasbench201"):
        architecture(tmp_path)


@pytest.mark.parametrize("name", ["EvNASA", "EvNASB", "EvNASC"])
def test_hooks_count_what_describe_counts(name):
    said = describe(Describe(arch=name, dataset="cifar10"))
    net = network(name)
    assert sum(p.numel() for p in net.parameters()) == said["parameters"]
    assert counted(net, torch.zeros(1, 3, 32, 32)) == said["macs"]


def test_hooks_count_the_imagenet_form():
    said = describe(Describe(arch="EvNASA", dataset="imagenet"))
    assert counted(network("EvNASA", dataset="imagenet"), torch.zeros(1, 3, 224, 224)) == said["macs"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("EvNASB", {"layers": 5}),
        ("EvNASC", {"layers": 5}),
        ("EvNASB", {"layers": 5, "form": "imagenet"}),
        ("301142", {"layers": 1}),
    ],
)
def test_plain_module(given, words):
    check_plain(network(given, channels=4, classes=7, **words), 64 if "form" in words else 32, 7)


@pytest.mark.parametrize("imagenet", [False, True])
def test_same_values_as_the_trainings_form(imagenet):
    net = network("EvNASA", channels=4, layers=6, form="imagenet" if imagenet else "cifar", auxiliary=True)
    theirs = build(PUBLISHED["EvNASA"], imagenet, 10, 4, 6, auxiliary=True)
    theirs.load_state_dict(net.state_dict())
    images = torch.randn(2, 3, *((224, 224) if imagenet else (32, 32)))
    with torch.no_grad():
        torch.testing.assert_close(net(images), theirs.eval()(images)[0], rtol=1e-4, atol=1e-5)
    ours, wanted = net.train()(images), theirs.train()(images)
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    sum(o.sum() for o in ours).backward()


def test_own_weights(tmp_path):
    words = {"dataset": "digits", "train_images": 96, "channels": 4, "epochs": 1, "batch_size": 32, "layers": 5}
    options = RunOptions(paper="evnas", section="train", out=tmp_path / "run", device="cpu")
    train(Train(arch="EvNASA", **words), options)  # with the auxiliary head, as by default
    file = tmp_path / "run" / "weights.safetensors"
    images = torch.randn(2, 3, 32, 32)
    net = network(weights=file)
    assert (net.classifier.out_features, len(net.cells), net.training) == (10, 5, False)
    others = [network("EvNASA", channels=4, layers=5), network(file), network(weights=tmp_path / "run", auxiliary=True)]
    assert architecture(file) == architecture(tmp_path / "run") == PUBLISHED["EvNASA"]
    for other in others:
        other.load_state_dict(load_file(file))  # plain torch
        with torch.no_grad():
            torch.testing.assert_close(other(images), net(images))
    for wrong, said in (
        ({"classes": 5}, "has a classifier of 10 classes, 5 are asked for"),
        ({"architecture": "EvNASB"}, "holds another architecture"),
        ({"channels": 8}, "does not fit"),
        ({"form": "imagenet"}, "does not fit"),
    ):
        with pytest.raises(UserError, match=said):
            network(weights=file, **wrong)
    with pytest.raises(RuntimeError, match="Missing key"):
        others[0].load_state_dict({k: v for k, v in load_file(file).items() if not k.startswith("stem")})


def test_own_weights_of_a_cell(tmp_path):
    net = network(CELL, channels=4, layers=2, dataset="cifar100")
    save_weights(net, tmp_path / "w.safetensors", {"architecture": CELL, "space": "nasbench201", "dataset": "cifar100"})
    torch.save({"state_dict": net.state_dict()}, tmp_path / "w.pt")
    images = torch.randn(2, 3, 32, 32)
    for again in (
        network(weights=tmp_path / "w.safetensors"),
        network(CELL, weights=tmp_path / "w.pt", dataset="cifar100"),
    ):
        with torch.no_grad():
            torch.testing.assert_close(again(images), net(images))
    with pytest.raises(UserError, match="does not say its architecture"):
        network(weights=tmp_path / "w.pt")


def test_symbolic_tracing():
    images = torch.randn(2, 3, 32, 32)
    for name in ("EvNASA", CELL):
        net = network(name, channels=4, layers=3)
        with torch.no_grad():
            torch.testing.assert_close(torch.fx.symbolic_trace(net)(images), net(images))


def test_sizes_follow_what_is_given(tmp_path):
    origin = {"dataset": "some/folder", "classes": 3, "pixels": 32}
    save_architecture(tmp_path / "architecture.json", "darts", PUBLISHED["EvNASA"].as_dict(), origin)
    assert network(tmp_path, channels=4, layers=3).classifier.out_features == 3
    assert network(tmp_path, channels=4, layers=3, dataset="cifar100").classifier.out_features == 100
    assert network("301142", channels=4, layers=1, dataset="imagenet16-120").classifier.out_features == 120
    with pytest.raises(UserError, match="name an architecture"):
        network()
    with pytest.raises(UserError, match="form must be"):
        network("EvNASA", form="big")
    with pytest.raises(UserError):
        network("EvNASA", dataset=str(tmp_path / "absent"))


def test_pretrained(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    with pytest.raises(UserError, match="checkpoints fetch evnas-cifar10-c"):
        network("EvNASC", pretrained=True)
    with pytest.raises(UserError, match="the authors published weights of"):
        network("DARTS_V2", pretrained=True)
    (tmp_path / "checkpoints").mkdir()
    theirs = build(PUBLISHED["EvNASC"], False, 100, auxiliary=True)
    torch.save(theirs.state_dict(), tmp_path / "checkpoints" / "evnas-cifar100-c")
    net = network("EvNASC", dataset="cifar100", pretrained=True)
    torch.testing.assert_close(net.classifier.weight, theirs.classifier.weight)


def test_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_readme("evnas")


def test_pasted_cells_in_the_shell(tmp_path, capsys):
    (tmp_path / "found.txt").write_text(TEXT)
    (tmp_path / "found.json").write_text(json.dumps(TEXT))
    for arch in (TEXT, f"{tmp_path}/found.txt", f"{tmp_path}/found.json"):
        main("evnas", VERBS, ["describe", arch, "--dataset", "cifar10"])
        assert "parameters: 3626470" in capsys.readouterr().out
    save_architecture(tmp_path / "run" / "architecture.json", "darts", PUBLISHED["EvNASA"].as_dict())
    main("evnas", VERBS, ["describe", str(tmp_path / "run")])
    assert "parameters: 3626470" in capsys.readouterr().out
    for arch in (CELL, "301142", "naslib: (2, 1, 0, 0, 4, 3)"):
        main("evnas", VERBS, ["describe", arch])
        said = capsys.readouterr().out
        assert CELL in said and f"macs: {counted(network(CELL), torch.zeros(1, 3, 32, 32))}" in said
    main("evnas", VERBS, ["draw", CELL, "--out", str(tmp_path / "drawn")])
    main("evnas", VERBS, ["draw", TEXT, "--out", str(tmp_path / "drawn2")])
    assert len(list((tmp_path / "drawn2").glob("*.svg"))) == 2
    assert "line 1, column" in mistake(capsys, "describe", TEXT[:-30])
