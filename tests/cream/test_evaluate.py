"""Test error of weights: own files, the authors' containers, the hub's."""

import json

import pytest
import torch

from common.cli.verbs import main
from common.errors import UserError
from papers.cream.__main__ import VERBS
from papers.cream.evaluate import evaluate
from papers.cream.networks.architectures import PUBLISHED
from papers.cream.networks.networks import derive
from papers.cream.networks.weights import load_weights
from papers.cream.settings import Evaluate
from tests.cream.tools import PATH, described, options


def test_evaluating_the_file_gives_the_trained_numbers(trained, tmp_path):
    folder, result = trained
    settings = Evaluate(arch=PATH, checkpoint=str(folder / "weights.safetensors"), dataset="digits",
                                resolution=32, batch_size=16)  # fmt: skip
    again = evaluate(settings, options(tmp_path, "evaluate"))
    assert again["metrics"]["top1_error_percent"] == pytest.approx(result["metrics"]["top1_error_percent"])
    assert again["metrics"]["loss"] == pytest.approx(result["metrics"]["loss"], abs=1e-4) and again["weights"] == "own"
    assert result["metrics"]["steps"] == 4 and again["metrics"]["parameters"] == result["metrics"]["parameters"]


def test_the_file_says_which_network_it_is_of(trained, tmp_path, capsys):
    """Own weights need no --arch and no --dataset; another set is refused."""
    folder, result = trained
    file = str(folder / "weights_raw.safetensors")
    main("cream", VERBS, ["evaluate", "--checkpoint", file, "--profile", "proxy", "--workers", "0",
                          "--device", "cpu", "--out", str(tmp_path / "a")])  # fmt: skip
    assert "was trained on digits: it is tested on that" in capsys.readouterr().err
    again = json.loads((tmp_path / "a" / "result.json").read_text())
    assert again["settings"]["dataset"] == "digits" and again["architecture"]["path"] == json.loads(PATH)
    assert again["metrics"]["top1_error_percent"] == pytest.approx(result["metrics"]["raw_top1_error_percent"])
    for words, message in ((["--dataset", "cifar10"], "was trained on digits, --dataset is cifar10"),):
        with pytest.raises(SystemExit):
            main("cream", VERBS, ["evaluate", "--checkpoint", file, *words, "--out", str(tmp_path / "b")])
        assert message in capsys.readouterr().err
    sizes = described(file)
    assert (sizes["dataset"], sizes["classes"], sizes["resolution"]) == ("digits", 10, 32)
    assert sizes["parameters"] == result["metrics"]["parameters"]


def container(net, **extra):
    return {"epoch": 591, "arch": "Childnet", "version": 2, "metric": 53.8, **extra}


def test_the_authors_container(tmp_path):
    import argparse

    torch.manual_seed(0)
    net, raw = derive(PUBLISHED["14"], 10), derive(PUBLISHED["14"], 10)
    file = tmp_path / "14.pth.tar"
    content = container(
        net, args=argparse.Namespace(lr=0.064),
        state_dict_ema={"module." + k: v for k, v in net.state_dict().items()},
        state_dict={"module." + k: v for k, v in raw.state_dict().items()},
    )  # fmt: skip
    torch.save(content, file)
    for which, want in (("ema", net), ("raw", raw)):
        loaded = derive(PUBLISHED["14"], 10)
        origin, found = load_weights(loaded, str(file), which)
        assert origin == "authors" and found.epoch == 591
        assert all(torch.equal(v, want.state_dict()[k]) for k, v in loaded.state_dict().items())
    torch.save(container(net, state_dict=raw.state_dict()), file)
    with pytest.raises(UserError, match="--weights ema"):
        load_weights(derive(PUBLISHED["14"], 10), str(file), "ema")
    assert load_weights(derive(PUBLISHED["14"], 10), str(file))[1].weights == "raw"


def test_the_hub_weights_are_read_in_order(tmp_path):
    torch.manual_seed(0)
    net = derive(PUBLISHED["43"], 10)
    hub = {}
    for number, (name, value) in enumerate(net.state_dict().items()):
        renamed = name.replace("classifier.", "classifier.1.") if name.startswith("classifier") else f"stem.{number}.w"
        hub[renamed] = value
    torch.save(hub, tmp_path / "cream-043.pth")
    loaded = derive(PUBLISHED["43"], 10)
    assert load_weights(loaded, str(tmp_path / "cream-043.pth"))[0] == "nni"
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in loaded.state_dict().items())
    with pytest.raises(UserError, match="checkpoint of another network"):
        load_weights(derive(PUBLISHED["14"], 10), str(tmp_path / "cream-043.pth"))
    with pytest.raises(UserError, match="head of 10 classes, the data set has 7"):
        load_weights(derive(PUBLISHED["43"], 7), str(tmp_path / "cream-043.pth"))
    torch.save({"state_dict_ema": derive(PUBLISHED["14"], 10).state_dict()}, tmp_path / "14.pth.tar")
    with pytest.raises(UserError, match="does not fit this architecture"):
        load_weights(derive(PUBLISHED["43"], 10), str(tmp_path / "14.pth.tar"))
    with pytest.raises(UserError, match="no weights given"):
        load_weights(derive(PUBLISHED["43"], 10), "")
