"""Retraining and evaluation: resume, two processes, checkpoint formats, bad input."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from common.cli.errors import UserError
from common.cli.verbs import RunOptions, main
from common.spaces.architecture import save_architecture
from common.weights.read import load_tensors
from papers.cream.__main__ import VERBS
from papers.cream.describe import describe as describe_verb
from papers.cream.evaluate import evaluate
from papers.cream.method.schedules import training_lr
from papers.cream.network.architectures import PUBLISHED
from papers.cream.network.networks import derive
from papers.cream.network.weights import load_weights
from papers.cream.search import search
from papers.cream.settings import GENERIC_TRAIN, Describe, Evaluate, Search, Train
from papers.cream.train import train
from reproductions.__main__ import main as reproductions

PATH = "[[0],[0],[0],[0],[0],[0],[0]]"
TINY = Train(
    arch=PATH, dataset="digits", train_images=32, resolution=32, workers=0, epochs=2, cooldown=0, batch_size=16,
    parts=2, lr=0.004, warmup_epochs=1, ema_decay=0.9, crop="padded", pad=2, flip=False, randaugment=0.0,
    eval_batch_size=20,
)  # fmt: skip


def describe(arch, dataset="", **more):
    return describe_verb(Describe(arch=arch, dataset=dataset, **more), None)


def options(folder, section="train", **changes):
    return RunOptions(**{"out": folder, "device": "cpu", "paper": "cream", "section": section, "seed": 1, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_test_set):
    folder = tmp_path_factory.mktemp("train")
    return folder, train(TINY, options(folder))


def test_evaluating_the_file_gives_the_trained_numbers(finished, tmp_path):
    folder, result = finished
    settings = Evaluate(arch=PATH, checkpoint=str(folder / "weights.safetensors"), dataset="digits",
                                resolution=32, batch_size=16)  # fmt: skip
    again = evaluate(settings, options(tmp_path, "evaluate"))
    assert again["metrics"]["top1_error_percent"] == pytest.approx(result["metrics"]["top1_error_percent"])
    assert again["metrics"]["loss"] == pytest.approx(result["metrics"]["loss"], abs=1e-4) and again["weights"] == "own"
    assert result["metrics"]["steps"] == 4 and again["metrics"]["parameters"] == result["metrics"]["parameters"]


def test_resuming_inside_an_epoch_changes_nothing(finished, tmp_path, monkeypatch):
    import papers.cream.train as module

    folder, _ = finished
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    real, calls = module.train_step, []

    def stops(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(module, "train_step", stops)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, options(tmp_path))
    train(TINY, options(tmp_path))
    for name in ("result.json", "history.csv", "weights.safetensors", "weights_raw.safetensors"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_two_processes_equal_one_with_two_parts_and_resume(finished, tmp_path, in_two_processes):
    """Dropout on; weights, running statistics and tested errors of both; then stopped inside an epoch and resumed."""
    folder, result = finished
    tmp_path = tmp_path / "run"
    in_two_processes("train", TINY, tmp_path, 1, stop=4)
    for name in ("result.json", "history.csv", "weights.safetensors", "weights_raw.safetensors"):
        assert (tmp_path / name).read_bytes() == (tmp_path.with_name("run-resumed") / name).read_bytes(), name
    other = json.loads((tmp_path / "result.json").read_text())
    assert TINY.dropout and other["processes"] == 2
    assert other["metrics"] == pytest.approx(result["metrics"], rel=1e-4)
    for file in ("weights.safetensors", "weights_raw.safetensors"):
        ours, theirs = load_tensors(folder / file), load_tensors(tmp_path / file)
        for name, value in ours.items():
            assert np.allclose(value, theirs[name], atol=2e-5, rtol=1e-4), name  # running statistics among them


def test_the_file_says_which_network_it_is_of(finished, tmp_path, capsys):
    """Own weights need no --arch and no --dataset; another set is refused."""
    folder, result = finished
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
    described = describe(file)
    assert (described["dataset"], described["classes"], described["resolution"]) == ("digits", 10, 32)
    assert described["parameters"] == result["metrics"]["parameters"]


def test_the_best_test_epoch_stands_beside_the_last(finished):
    folder, result = finished
    with (folder / "history.csv").open() as lines:
        errors = [float(row["top1_error_percent"]) for row in csv.DictReader(lines)]
    metrics = result["metrics"]
    assert metrics["top1_error_percent"] == errors[-1] and metrics["best_top1_error_percent"] == min(errors)
    assert metrics["best_epoch"] == errors.index(min(errors))


def test_a_folder_with_val_and_test_is_watched_on_val(class_folders, tmp_path):
    shutil.copytree(class_folders / "val", class_folders / "test")
    (class_folders / "test" / "a" / "0.png").unlink()
    settings = replace(TINY, dataset=str(class_folders), train_images=0, batch_size=4, parts=1, epochs=1,
                       crop="resized", pad=4, warmup_epochs=0)  # fmt: skip
    result = train(settings, options(tmp_path / "run"))
    with (tmp_path / "run" / "history.csv").open() as lines:
        (row,) = csv.DictReader(lines)
    assert "top1_error_percent" not in row and float(row["valid_top1_error_percent"]) % 12.5 == 0  # of 8 pictures
    metrics = result["metrics"]
    assert round(metrics["top1_error_percent"] * 7 / 100, 6) in range(8)  # of 7
    assert metrics["best_valid_top1_error_percent"] == metrics["valid_top1_error_percent"]


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


def test_single_block_rule(tmp_path):
    assert describe("14")["blocks"][0] == ["k3 e4"]  # the entry 3 of a one-block stage is not read
    assert describe("14", single_block="strict")["blocks"][0] == ["k5 e6"]
    path = [[0], [5], [0, 1], [0], [1], [2], [0]]
    assert describe(json.dumps(path))["blocks"] == [["k7 e6"], ["k3 e4", "k3 e6"], ["k3 e4"], ["k3 e6"], ["k5 e4"]]
    assert describe(json.dumps(path), single_block="default")["blocks"][2] == ["k3 e6"]
    assert describe(json.dumps(PUBLISHED["287"]))["parameters"] == describe("285")["parameters"] == 6_044_368
    save_architecture(tmp_path / "a.json", "cream", {"path": path, "resolution": 96}, {})
    described = describe(str(tmp_path / "a.json"))
    assert described["resolution"] == 96 and described["blocks"][0] == ["k7 e6"]
    four = [[0], [3], [3], [3, 3, 3, 1], [3], [3], [0]]
    assert len(describe(json.dumps(four), repeat_stage3=True)["blocks"][2]) == 5


@pytest.mark.parametrize("alias", [("112", "114"), ("285", "287"), ("470", "481"), ("600", "604")])
def test_aliases(alias):
    assert describe(alias[0])["parameters"] == describe(alias[1])["parameters"]


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("23", "never its architecture"),
        ("72", "never its architecture"),
        ("15", "unknown architecture"),
        ("", "no architecture given"),
        ("[[0],[3]]", "list of 7 lists"),
        ("[[0],[9],[3],[3],[3],[3],[0]]", "stage 1: unknown choice 9"),
        ("[[0],[3],[3],[3],[3],[3],[1]]", "stage 6: unknown choice 1"),
        ("[[0],[-1,3],[3],[3],[3],[3],[0]]", "stage 1 has no first block"),
        ("[[0],[3", "not a path list"),
    ],
)
def test_bad_architectures(arch, message):
    with pytest.raises(UserError, match=message) as caught:
        describe(arch)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 64}, "images of 32 pixels are smaller than --resolution 64"),
        ({"batch_size": 64}, "too few for a batch of 64; lower --batch-size"),
        ({"epochs": 0}, "--epochs must be at least 1, not 0"),
        ({"lr": 1e30, "warmup_epochs": 0}, "stops before this update"),
    ],
)
def test_bad_training(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        train(replace(TINY, **changes), options(tmp_path))


@pytest.mark.parametrize("packed", [False, True])
def test_folders_and_lmdb_through_every_stage(class_folders, tmp_path, packed):
    """Class folders, and the same pictures packed by ``python -m reproductions data prepare lmdb``."""
    dataset = class_folders
    if packed:
        dataset = tmp_path / "packed"
        dataset.mkdir()
        for split, name in (("train", "train.lmdb"), ("test", "val.lmdb")):
            arguments = ["data", "prepare", "lmdb", "--source", str(class_folders), "--split", split]
            assert reproductions([*arguments, "--to", str(dataset / name)]) == 0
    searched = search(
        Search(
            dataset=str(dataset), resolution=32, workers=0, macs_max=122, epochs=2, batch_size=4, parts=1, lr=0.01,
            start_epoch=0, update_every=1, pool_size=2, slice=2, holdout=2, recalibrate_batches=1,
            choose="rescore",
        ),
        options(tmp_path / "search", "search"),
    )  # fmt: skip
    assert searched["metrics"]["meta_updates"] == 1 and searched["metrics"]["distilled"] == 1 and searched["scored"]
    arch = str(tmp_path / "search" / "architecture.json")
    settings = replace(TINY, arch=arch, dataset=str(dataset), train_images=0, batch_size=4, parts=1, crop="resized",
                       pad=4, randaugment=9.0, erasing=0.5, epochs=1, warmup_epochs=0)  # fmt: skip
    result = train(settings, options(tmp_path / "train"))
    assert result["metrics"]["steps"] == 3
    weights = str(tmp_path / "train" / "weights.safetensors")
    sources = [dataset, dataset / "val.lmdb"] if packed else [dataset]
    for number, source in enumerate(sources):
        again = evaluate(
            Evaluate(arch=arch, checkpoint=weights, dataset=str(source), workers=0),
            options(tmp_path / f"evaluate{number}", "evaluate"),
        )
        assert again["metrics"]["images"] == 8
        assert again["metrics"]["loss"] == pytest.approx(result["metrics"]["loss"], abs=1e-4)
    if packed:  # the pictures are the same, so the run is
        plain = train(replace(settings, dataset=str(class_folders)), options(tmp_path / "plain"))
        assert plain["metrics"] == result["metrics"]


def test_a_path_of_the_larger_space_is_trained_as_it_was_searched(tmp_path):
    settings = Search(
        dataset="digits", train_images=48, resolution=32, workers=0, macs_max=122, epochs=2, batch_size=8, parts=1,
        lr=0.01, start_epoch=0, update_every=2, pool_size=2, slice=3, crop="padded", flip=False,
        jitter=0.0, resunit=True, dil_conv=True, pool="catavgmax", sampling="weighted",
        probabilities=(0.0,) * 6 + (0.3, 0.3, 0.4),
    )  # fmt: skip
    found = search(settings, options(tmp_path / "search", "search"))
    path = found["architecture"]["path"]
    assert all(choice >= 6 for stage in path[1:6] for choice in stage)
    file = tmp_path / "search" / "architecture.json"
    described = describe(str(file), "digits")
    assert described["parameters"] == found["metrics"]["parameters"] and described["architecture"] == path
    result = train(replace(TINY, arch=str(file), epochs=1), options(tmp_path / "train"))
    assert result["metrics"]["parameters"] == found["metrics"]["parameters"]
    again = evaluate(
        Evaluate(arch=str(file), checkpoint=str(tmp_path / "train" / "weights.safetensors"), dataset="digits"),
        options(tmp_path / "evaluate", "evaluate"),
    )
    assert again["metrics"]["loss"] == pytest.approx(result["metrics"]["loss"], abs=1e-4)
    save_architecture(file, "cream", {"path": path, "resolution": 32}, {})
    with pytest.raises(UserError, match="unknown choice"):
        describe(str(file), "digits")


def test_evaluation_in_two_processes(finished, tmp_path, in_two_processes):
    folder, result = finished
    settings = Evaluate(arch=PATH, checkpoint=str(folder / "weights.safetensors"), dataset="digits",
                                resolution=32, batch_size=16)  # fmt: skip
    in_two_processes("evaluate", settings, tmp_path, 1)
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["processes"] == 2 and written["metrics"]["images"] == 40  # none twice, none left out
    for name in ("top1_error_percent", "top5_error_percent"):
        assert written["metrics"][name] == pytest.approx(result["metrics"][name])
    assert written["metrics"]["loss"] == pytest.approx(result["metrics"]["loss"], abs=1e-4)


def test_generic_recipe():
    """retrain.yaml: constant rate, no warm-up, no cool-down."""
    settings = Train(arch="14", **GENERIC_TRAIN)
    rate, epochs = training_lr(settings, "14")
    assert epochs == 200 and {rate(epoch) for epoch in range(epochs)} == {1e-2}
