"""Testing own weights and the authors' formats; weights say what they are of."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from common.cli.verbs import main
from common.errors import UserError
from common.weights.read import save_weights
from papers.evnas.__main__ import VERBS
from papers.evnas.evaluate import evaluate, load
from papers.evnas.networks.architectures import PUBLISHED, build, load_genotype
from papers.evnas.settings import Evaluate, Train
from papers.evnas.train import train
from tests.evnas.small import TRAIN, mistake, train_options


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("legacy", [True, False])
def test_authors_cifar_checkpoint(tmp_path, prefix, legacy):
    """A bare state dict with auxiliary head, as torch 1.5 wrote it."""
    torch.manual_seed(0)
    model = build(load_genotype("EvNASB"), False, 10, 4, 3, auxiliary=True)
    path = tmp_path / "weights.pt"
    state = {prefix + key: value for key, value in model.state_dict().items()}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    found = evaluate(Evaluate("EvNASB", "digits", str(path)), train_options(tmp_path / "out"))
    assert found["metrics"]["parameters"] == sum(p.numel() for n, p in model.named_parameters() if "aux" not in n)


def test_own_weights_say_what_they_are(tmp_path, capsys):
    """Evaluation needs no --arch and no --dataset; another set is refused, and the authors' files must be told."""
    train(Train(**{**TRAIN, "arch": "EvNASC", "epochs": 1}), train_options(tmp_path / "train"))
    weights = str(tmp_path / "train" / "weights.safetensors")
    main("evnas", VERBS, ["evaluate", "--profile", "paper", "--checkpoint", weights, "--out", str(tmp_path / "run")])
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (
        found["architecture"]["normal"] == PUBLISHED["EvNASC"].as_dict()["normal"]
        and found["settings"]["dataset"] == "digits"
    )
    capsys.readouterr()
    line = mistake(capsys, "evaluate", "--checkpoint", weights, "--dataset", "cifar10", "--out", str(tmp_path / "no"))
    assert "was trained on digits, not on cifar10" in line
    bare = tmp_path / "weights.pt"
    torch.save(build(load_genotype("EvNASA"), False, 10, 4, 3).state_dict(), bare)
    words = ["--checkpoint", str(bare), "--out", str(tmp_path / "no")]
    assert "name the set with --dataset" in mistake(capsys, "evaluate", "--arch", "EvNASA", *words)
    assert "name it with --arch" in mistake(capsys, "evaluate", "--dataset", "digits", *words)
    torch.save(build(load_genotype("EvNASA"), False, 100, 4, 3).state_dict(), bare)
    line = mistake(capsys, "evaluate", "--arch", "EvNASA", "--dataset", "digits", *words)
    assert "100 classes and digits has 10" in line


@pytest.mark.parametrize(
    ("metadata", "asked", "words"),
    [
        ({"class_names": [*"0123456789"]}, {}, ""),
        ({"class_names": [*"0123456789"], "dataset": "gone/folder"}, {"dataset": "digits"}, ""),  # moved, or renamed
        ({"class_names": [*"0123456789"], "dataset": "cifar10"}, {"dataset": "digits"}, "trained on cifar10, not on"),
        ({"class_names": [*"abcdefghij"]}, {}, "with a class 'a' where digits has '0'"),
        ({"paper": "nao_v2", "architecture": {"text": "1 0"}}, {}, "holds weights of nao_v2; give a file of evnas"),
    ],
)
def test_the_set_of_own_weights_is_known_by_its_classes(metadata, asked, words, tmp_path):
    network, path = build(load_genotype("EvNASA"), False, 10, 4, 3), tmp_path / "w.safetensors"
    about = {"paper": "evnas", "architecture": PUBLISHED["EvNASA"].as_dict(), "dataset": "digits", **metadata}
    save_weights(network, path, about)
    made = train_options(tmp_path / "out", given=frozenset(asked))
    settings = Evaluate(**{"dataset": "digits", "checkpoint": str(path), **asked})
    if not words:
        assert load(settings, made, torch.device("cpu"))
        return
    with pytest.raises(UserError, match=words) as error:
        load(settings, made, torch.device("cpu"))
    assert "\n" not in str(error.value)


def test_imagenet_weights_are_known_by_their_keys(tmp_path):
    """Whatever the folder is called: the weights of a two-stem network are tested at 224 pixels."""

    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "pictures" / part / name).mkdir(parents=True)
            Image.new("RGB", (30, 40), (80, 0, 0)).save(tmp_path / "pictures" / part / name / "0.png")
    save_weights(build(load_genotype("EvNASA"), True, 2, 4, 3), tmp_path / "w.safetensors")
    settings = Evaluate(
        arch="EvNASA", dataset=str(tmp_path / "pictures"), checkpoint=str(tmp_path / "w.safetensors"), workers=0
    )
    assert evaluate(settings, train_options(tmp_path / "run", allow_unpinned=True))["metrics"]["images"] == 2
