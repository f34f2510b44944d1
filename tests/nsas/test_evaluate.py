"""Weights say what they are of: own records, released containers, sets and classes that do not match."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from common.cli.verbs import main
from common.errors import UserError
from common.spaces.darts.network import derived
from common.weights.read import read_metadata
from papers.nsas.__main__ import VERBS
from papers.nsas.describe import described
from papers.nsas.evaluate import evaluate
from papers.nsas.networks.architectures import CNN
from papers.nsas.networks.weights import read_cnn
from papers.nsas.settings import Evaluate, Train
from papers.nsas.train import form_of, train
from tests.nsas.small import RANDOM, TRAIN_CNN, module_of, options

SMALL = Train(
    dataset="digits", train_images=20, batch_size=10, epochs=1, channels=2, layers=3, auxiliary=False,
    eval_batch_size=500,
)  # fmt: skip


def released(tmp_path, classes: int, network: str = "cifar", container: str = "", prefix: str = ""):
    """A file as the authors saved theirs."""
    model = derived(CNN["Random_NSAS_C"], network == "imagenet", classes, 4, 3, auxiliary=True)
    state = {prefix + key: value for key, value in model.state_dict().items()}
    if container:
        state = {
            "epoch": 231, container: state, "best_acc_top1": np.float64(74.5), "best": torch.tensor(74.478),
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        }  # fmt: skip
    path = tmp_path / f"{network}{classes}{container}.pth.tar"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return str(path)


@pytest.mark.parametrize(
    ("classes", "network", "dataset"),
    [(10, "cifar", "cifar10"), (100, "cifar", "cifar100"), (1000, "imagenet", "imagenet")],
)
@pytest.mark.parametrize("container", ["", "state_dict"])
def test_a_released_file_names_its_set(classes, network, dataset, container, tmp_path):
    """Under any profile: nothing typed, so the profile's digits are not what it is tested on."""
    path = released(tmp_path, classes, network, container, "module." if container else "")
    settings = Evaluate(checkpoint=path, arch="Random_NSAS_C", dataset="digits")
    found = read_cnn(settings, options(tmp_path, "evaluate"))
    assert (found.settings.dataset, found.form.imagenet, found.form.classes) == (
        dataset,
        network == "imagenet",
        classes,
    )
    assert (found.settings.channels, found.settings.layers) == (4, 3)
    if container:
        assert found.found.epoch == 231 and found.found.beside["best_acc_top1"] == 74.5
    with pytest.raises(UserError, match="does not say its architecture"):
        read_cnn(replace(settings, arch=""), options(tmp_path, "evaluate"))


def test_another_number_of_classes_stops(tmp_path):
    path = released(tmp_path, 100)
    settings = Evaluate(checkpoint=path, arch="Random_NSAS_C", dataset="digits")
    with pytest.raises(UserError, match="its classifier has 100 classes and digits has 10"):
        evaluate(settings, options(tmp_path / "e", "evaluate", given=frozenset({"dataset"})))


def test_own_weights_need_no_flags(tmp_path, capsys):
    trained = train(SMALL, options(tmp_path / "t", "train"))["metrics"]
    path = str(tmp_path / "t" / "weights.safetensors")
    said = read_metadata(path)
    assert (said["dataset"], said["classes"], said["width"], said["depth"]) == ("digits", 10, 2, 3)
    tested = evaluate(Evaluate(checkpoint=path), options(tmp_path / "e", "evaluate"))
    assert tested["metrics"]["top1_error_percent"] == trained["top1_error_percent"]
    assert tested["metrics"]["loss"] == pytest.approx(trained["loss"], rel=1e-5)
    assert (tested["dataset"], tested["network"], tested["channels"], tested["layers"]) == ("digits", "cifar", 2, 3)
    for flags, words in (
        (["--dataset", "cifar10"], "was trained on digits, not on cifar10"),
        (["--arch", "Random_NSAS_C"], "holds another architecture"),
        (["--weights", "ema"], "--weights ema"),
    ):
        with pytest.raises(SystemExit):
            main("nsas", VERBS, ["evaluate", "--checkpoint", path, *flags, "--out", str(tmp_path / "x")])
        assert words in capsys.readouterr().err
    found = described(path)
    assert (found["dataset"], found["channels"], found["layers"]) == ("digits", 2, 3)
    assert found["parameters"] == trained["parameters"]


def folder(root, side: int) -> str:
    draw = np.random.RandomState(0)
    for split in ("train", "val"):
        for label in "abc":
            (root / split / label).mkdir(parents=True)
            for number in range(4):
                pixels = (255 * draw.rand(side, side, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{number}.png")
    return str(root)


def test_the_network_follows_the_pictures(tmp_path, capsys):
    """Not the folder's name: small pictures in a folder called imagenet, large ones in another."""
    small, large = folder(tmp_path / "imagenet", 32), folder(tmp_path / "flowers", 140)
    one = options(tmp_path, "train")
    assert form_of("auto", small, one) == "cifar"
    assert form_of("auto", large, one) == "imagenet"
    assert form_of("auto", f"{large}@32", one) == "cifar"
    assert form_of("cifar", large, one) == "cifar"
    assert form_of("auto", "imagenet", one) == "imagenet"
    command = ["train", "--dataset", large, "--plan", "--batch-size", "4", "--train-images", "0", "--channels", "2"]
    with pytest.raises(SystemExit):
        main("nsas", VERBS, [*command, "--out", str(tmp_path / "x")])
    assert "choose --variant imagenet-step or imagenet-linear, or --network cifar" in capsys.readouterr().err


def test_what_search_writes_training_takes(tmp_path):
    module_of("search_random:search")[1](replace(RANDOM, epochs=1), options(tmp_path / "s"))
    settings = replace(TRAIN_CNN, arch=str(tmp_path / "s" / "architecture.json"), epochs=1)
    trained = train(settings, options(tmp_path / "t", "train"))
    weights = str(tmp_path / "t" / "weights.safetensors")
    tested = evaluate(
        Evaluate(arch=settings.arch, checkpoint=weights, dataset="digits", channels=2, layers=3),
        options(tmp_path / "e", "evaluate"),
    )
    assert tested["metrics"]["top1_error_percent"] == pytest.approx(trained["metrics"]["top1_error_percent"])
