"""Training and evaluation of derived networks: tiny runs, resume, the authors' checkpoint formats, users' mistakes."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import torch

from common.cli.errors import UserError
from common.cli.verbs import RunOptions, main
from common.data.pictures.batches import open_pictures
from common.spaces.architecture import save_architecture
from common.spaces.counting import conv_macs, parameters
from common.spaces.darts import train as train_module
from common.spaces.darts.genotype import drawn_pairs
from common.weights.read import save_weights
from papers.evnas.__main__ import VERBS
from papers.evnas.describe import describe, space_size
from papers.evnas.evaluate import evaluate
from papers.evnas.network import PUBLISHED, build, load_genotype
from papers.evnas.plan import plan_evaluate, plan_train
from papers.evnas.settings import Describe, Evaluate, Train, TrainImageNet
from papers.evnas.train import train

TINY = {
    "dataset": "digits", "train_images": 96, "channels": 4, "layers": 3, "auxiliary": False, "epochs": 2,
    "batch_size": 32, "flip": False, "cutout": 0, "pad": 2,
}  # fmt: skip


def options(folder: Path, **changes) -> RunOptions:
    return RunOptions(paper="evnas", section="train", out=folder, device="cpu", **changes)


def test_train_then_evaluate(tmp_path):
    settings = Train(**TINY)
    result = train(settings, options(tmp_path / "train"))
    weights = str(tmp_path / "train" / "weights.safetensors")
    found = evaluate(Evaluate(dataset="digits", checkpoint=weights), options(tmp_path / "evaluate"))
    assert found["metrics"]["top1_error_percent"] == pytest.approx(result["metrics"]["top1_error_percent"])
    assert found["metrics"]["images"] == 1000
    rows = (tmp_path / "train" / "history.csv").read_text().splitlines()
    assert len(rows) == 3 and rows[0].startswith("epoch,lr,drop_path,train_loss")
    assert train(settings, options(tmp_path / "train")) == result  # a finished run is recognised


def test_epochs_without_a_test_have_no_error_in_the_history(tmp_path):
    result = train(Train(**{**TINY, "epochs": 3}, eval_every=2), options(tmp_path))
    errors = [row["test_top1_error_percent"] for row in csv.DictReader((tmp_path / "history.csv").open())]
    assert errors[0] == "" and errors[1] != "" and float(errors[2]) == result["metrics"]["last_top1_error_percent"]


def test_an_interrupted_training_ends_the_same(tmp_path, monkeypatch):
    settings = Train(**{**TINY, "auxiliary": True, "drop_path": 0.3})
    whole = train(settings, options(tmp_path / "whole"))
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    real, calls = train_module.train_step, []

    def interrupted(*args, **kwargs):
        if len(calls) == 5:  # the second epoch's second step has been saved
            raise KeyboardInterrupt
        calls.append(kwargs["step"])
        return real(*args, **kwargs)

    monkeypatch.setattr(train_module, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(settings, options(tmp_path / "cut"))
    monkeypatch.setattr(train_module, "train_step", real)
    train(settings, options(tmp_path / "cut"))
    for name in ("weights.safetensors", "history.csv", "result.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert whole["metrics"]["parameters"] > 0


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("legacy", [True, False])
def test_authors_cifar_checkpoint(tmp_path, prefix, legacy):
    """A bare state dict with auxiliary head, as torch 1.5 wrote it."""
    torch.manual_seed(0)
    model = build(load_genotype("EvNASB"), False, 10, 4, 3, auxiliary=True)
    path = tmp_path / "weights.pt"
    state = {prefix + key: value for key, value in model.state_dict().items()}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    found = evaluate(Evaluate("EvNASB", "digits", str(path)), options(tmp_path / "out"))
    assert found["metrics"]["parameters"] == sum(p.numel() for n, p in model.named_parameters() if "aux" not in n)


def test_own_weights_say_what_they_are(tmp_path, capsys):
    """Evaluation needs no --arch and no --dataset; another set is refused, and the authors' files must be told."""
    train(Train(**{**TINY, "arch": "EvNASC", "epochs": 1}), options(tmp_path / "train"))
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
        assert found["macs_published"] == conv_macs(network, (3, *[origin.get("pixels", 32)] * 2))
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
    made = options(tmp_path / "out", given=frozenset(asked))
    settings = Evaluate(**{"dataset": "digits", "checkpoint": str(path), **asked})
    if not words:
        assert plan_evaluate(settings, made)
        return
    with pytest.raises(UserError, match=words) as error:
        plan_evaluate(settings, made)
    assert "\n" not in str(error.value)


def folder_of_pictures(root: Path) -> Path:
    import numpy as np
    from PIL import Image

    generator = np.random.RandomState(0)
    for split in ("train", "val"):
        for name in ("one", "two"):
            (root / split / name).mkdir(parents=True)
            for i in range(3):
                pixels = generator.randint(0, 256, (70, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def test_imagenet_recipe_and_container(tmp_path):
    """One epoch on pictures, then a checkpoint in the authors' container: epoch, state_dict, best_acc_top1,
    optimizer."""
    pictures = folder_of_pictures(tmp_path / "imagenet-two")
    assert len(open_pictures(str(pictures), "train", options(tmp_path)).classes) == 2
    result = train(
        TrainImageNet(dataset=str(pictures), channels=4, layers=3, epochs=1, batch_size=3, workers=0,
                              auxiliary=False, schedule="cosine"),
        options(tmp_path / "train"),
    )  # fmt: skip
    assert 0 <= result["metrics"]["top1_error_percent"] <= 100
    model = build(load_genotype("EvNASA"), True, 2, 4, 6, auxiliary=False)
    state = {"module." + key: value for key, value in model.state_dict().items()}
    container = {"epoch": 3, "state_dict": state, "best_acc_top1": torch.tensor(50.0), "optimizer": {"state": {}}}
    torch.save(container, tmp_path / "model_best.pth.tar")
    found = evaluate(
        Evaluate("EvNASA", str(pictures), str(tmp_path / "model_best.pth.tar"), workers=0),
        options(tmp_path / "out"),
    )
    assert found["metrics"]["images"] == 6


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(build(load_genotype("EvNASA"), False, 10, 4, 3).state_dict(), path)
    with pytest.raises(UserError, match="cells"):
        evaluate(Evaluate("EvNASC", "digits", str(path)), options(tmp_path / "out"))
    torch.save(build(load_genotype("EvNASA"), False, 100, 4, 3).state_dict(), path)
    with pytest.raises(UserError, match="classifier"):  # the trap of the README's CIFAR-100 command
        evaluate(Evaluate("EvNASA", "digits", str(path)), options(tmp_path / "out"))


def test_mistakes_are_one_line(tmp_path):
    for arch, words in (("EvNASD", "unknown architecture"), (str(tmp_path / "none.json"), "none.json")):
        with pytest.raises(UserError, match=words) as caught:
            train(Train(**{**TINY, "arch": arch}), options(tmp_path / "run"))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="checkpoint"):
        evaluate(Evaluate(dataset="digits"), options(tmp_path / "run"))
    with pytest.raises(UserError, match="too few"):
        train(Train(**{**TINY, "train_images": 16}), options(tmp_path / "few"))
    with pytest.raises(UserError, match="recipe imagenet"):
        train(Train(dataset="imagenet"), options(tmp_path / "imagenet"))


def test_an_architecture_file_trains(tmp_path):
    path = tmp_path / "architecture.json"
    save_architecture(path, "darts", PUBLISHED["EvNASC"].as_dict())
    result = train(Train(**{**TINY, "arch": str(path), "epochs": 1}), options(tmp_path / "run"))
    assert result["architecture"]["normal"] == PUBLISHED["EvNASC"].as_dict()["normal"]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["metrics"] == result["metrics"]
    assert describe(Describe(str(path), "cifar10"))["parameters"] == 3447838
    save_architecture(path, "nasbench201", "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    with pytest.raises(UserError, match="space"):
        load_genotype(str(path))


def test_counts_of_the_space_and_the_drawing():
    assert space_size("darts") == (180 * 7**8) ** 2 and space_size("nb201") == 15625
    edges = drawn_pairs(load_genotype("EvNASA").normal)
    assert edges[0] == ("c_{k-2}", "0", "sep_conv_3x3") and len(edges) == 12


def test_plans_of_training_and_evaluation(tmp_path):
    """Steps are those of the run, nothing is written; evaluation reads the sizes off the weights."""
    settings = Train(**TINY)
    lines = plan_train(settings, options(tmp_path / "run"))
    steps = re.search(r"2 x (\d+) = (\d+) steps of (\d+) images", lines[1])
    assert steps and int(steps[2]) == 2 * int(steps[1]) == 2 * -(-settings.train_images // settings.batch_size)
    assert "1-2 min on one CPU core" in lines[2] and not (tmp_path / "run").exists()
    network = build(load_genotype("EvNASA"), False, 10, 4, 3)
    save_weights(network, tmp_path / "w.safetensors")
    evaluation = Evaluate(arch="EvNASA", dataset="digits", checkpoint=str(tmp_path / "w.safetensors"))
    assert f"{parameters(network):,} parameters" in plan_evaluate(evaluation, options(tmp_path / "run"))[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("search --space nb201 --momentum 0", "Nesterov's form needs a momentum"),
        ("train --auxiliary --train-images 97 --batch-size 96", "97 images leave a last batch of one"),
        ("train --auxiliary --layers 1", "has one reduction"),
        ("train --auxiliary --train-images 65 --batch-size 32 --parts 4", "last batch of one"),
        ("train --auxiliary --train-images 66 --batch-size 32 --parts 2", "a share of one"),
        ("train --recipe imagenet --epochs 5", "needs more than 5"),
        ("train --recipe imagenet --warmup-epochs 3", "--warmup-epochs 3 does nothing here"),
        ("train --no-auxiliary --auxiliary-weight 0.3", "--auxiliary-weight 0.3 does nothing here"),
        ("search --strategy random --tournament 2", "--tournament 2 does nothing here"),
        ("search --no-mutation --mutation-rate 0.2", "--mutation-rate 0.2 does nothing here"),
        ("search --variant ND --beta 2", "--beta 2.0 does nothing here"),
        ("evaluate --channels -5", "--channels must be 0 or more"),
    ],
)
def test_one_line_for_what_cannot_run(command, words, tmp_path, capsys):
    assert words in mistake(capsys, *command.split(), "--out", str(tmp_path / "run"))


@pytest.mark.parametrize("content", [[torch.zeros(2)], torch.zeros(2), {1: torch.zeros(2)}, {"state_dict": [1]}])
def test_a_file_without_a_state_dict(content, tmp_path, capsys):
    torch.save(content, tmp_path / "w.pt")
    line = mistake(capsys, "evaluate", "--checkpoint", str(tmp_path / "w.pt"), "--out", str(tmp_path / "run"))
    assert "holds no weights" in line


def mistake(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as left:
        main("evnas", VERBS, list(arguments))
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if not line.startswith("note: ")]
    assert left.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_imagenet_weights_are_known_by_their_keys(tmp_path, capsys):
    """Whatever the folder is called: the weights of a two-stem network are tested at 224 pixels."""
    from PIL import Image

    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "pictures" / part / name).mkdir(parents=True)
            Image.new("RGB", (30, 40), (80, 0, 0)).save(tmp_path / "pictures" / part / name / "0.png")
    save_weights(build(load_genotype("EvNASA"), True, 2, 4, 3), tmp_path / "w.safetensors")
    settings = Evaluate(
        arch="EvNASA", dataset=str(tmp_path / "pictures"), checkpoint=str(tmp_path / "w.safetensors"), workers=0
    )
    assert evaluate(settings, options(tmp_path / "run", allow_unpinned=True))["metrics"]["images"] == 2
