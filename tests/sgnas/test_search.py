"""Both phases on a few digits: resumed runs equal uninterrupted ones, phases run alone equal the joint run, and what
search writes is what training and evaluation take.
"""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common.cli.errors import UserError
from common.cli.verbs import RunOptions
from papers.sgnas import search as search_module
from papers.sgnas.evaluate import evaluate
from papers.sgnas.generate import load_generator
from papers.sgnas.network.supernet import load_supernet
from papers.sgnas.search import search, search_generator, search_supernet
from papers.sgnas.settings import CIFAR_TRAIN, EvaluateSettings, EvolveSettings, SearchSettings, TrainSettings
from papers.sgnas.studies.evolve import evolve
from papers.sgnas.train import train

SMALL = SearchSettings(
    dataset="digits",
    macro="tiny",
    train_images=32,
    search_images=32,
    batch_size=16,
    supernet_epochs=1,
    cosine_epochs=1,
    generator_epochs=2,
    learning_rate=0.01,
    low=2.5,
    high=5.0,
    target_step=0.25,
    target_noise=0.1,
    validation_step=0.5,
    alpha=0.3,
    accept_loss=9.0,
    prior_tolerance=0.2,
    targets=(3.0, 3.75, 4.5),
    width=8,
)


def options(out: Path, section: str = "search") -> RunOptions:
    return RunOptions(out=out, device="cpu", paper="sgnas", section=section)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sgnas") / "whole"
    return folder, search(SMALL, options(folder))


class Stop(Exception):
    pass


@pytest.mark.parametrize("where", ["supernet", "generator"])
def test_resume_inside_an_epoch(whole, tmp_path, monkeypatch, where):
    reference, _ = whole
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    name = "supernet_gradients" if where == "supernet" else "generator_loss"
    original, calls = getattr(search_module, name), []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise Stop
        return original(*args, **kwargs)

    monkeypatch.setattr(search_module, name, interrupted)
    with pytest.raises(Stop):
        search(SMALL, options(tmp_path / "run"))
    monkeypatch.setattr(search_module, name, original)
    search(SMALL, options(tmp_path / "run"))
    files = ["history.csv", "result.json", "architecture.json", "generator.safetensors", "supernet.safetensors"]
    for file in [*files, "architecture-3.json", "architecture-3.75.json", "architecture-4.5.json"]:
        assert (tmp_path / "run" / file).read_bytes() == (reference / file).read_bytes(), file


def test_phases_alone(whole, tmp_path):
    reference, _ = whole
    search_supernet(SMALL, options(tmp_path / "one"))
    supernet = tmp_path / "one" / "supernet.safetensors"
    assert supernet.read_bytes() == (reference / "supernet.safetensors").read_bytes()
    search_generator(replace(SMALL, supernet=str(supernet)), options(tmp_path / "two"))
    assert (tmp_path / "two" / "generator.safetensors").read_bytes() == (
        reference / "generator.safetensors"
    ).read_bytes()


def test_result_and_generator(whole):
    folder, result = whole
    assert set(result["metrics"]) >= {"kendall_tau", "total_hardware_loss", "parameters", "macs"}
    assert json.loads((folder / "architecture.json").read_text())["origin"]["target"] == 3.75
    loaded = load_generator(str(folder))
    assert [kernels for kernels, _ in loaded.kernels([3.0, 3.75, 4.5])] == [
        r["kernels"] for r in result["architectures"]
    ]
    assert search(SMALL, options(folder))["fingerprint"] == result["fingerprint"]


def test_train_and_evaluate(whole, tmp_path):
    folder, _ = whole
    settings = TrainSettings(
        arch=str(folder / "architecture.json"),
        dataset="digits",
        train_images=256,
        se=True,
        activation="hswish",
        bn_momentum=0.1,
        epochs=1,
        batch_size=64,
        learning_rate=0.01,
        warmup_epochs=0,
        ema=0.5,
    )
    trained = train(settings, options(tmp_path / "train", "train"))
    checked = evaluate(
        EvaluateSettings(
            arch=settings.arch, checkpoint=str(tmp_path / "train" / "weights.safetensors"), dataset="digits"
        ),
        options(tmp_path / "evaluate", "evaluate"),
    )
    assert checked["metrics"]["top1_error_percent"] == trained["metrics"]["top1_error_percent"]
    assert checked["metrics"]["parameters"] == trained["metrics"]["parameters"]


def test_cifar_reports_a_smoothed_test_loss(whole, tmp_path):
    """On CIFAR the authors smooth the test loss too (0.1); nothing else changes."""
    folder, _ = whole
    rows = []
    for smoothed in (False, True):
        settings = TrainSettings(
            **{**CIFAR_TRAIN, "dataset": "digits", "arch": str(folder / "architecture.json"), "macro": "tiny"},
        )
        assert settings.smoothed_test_loss and not TrainSettings().smoothed_test_loss
        settings = replace(settings, train_images=128, epochs=1, batch_size=64, smoothed_test_loss=smoothed)
        out = tmp_path / str(smoothed)
        train(settings, options(out, "train"))
        rows.append(next(csv.DictReader((out / "history.csv").open())))
    plain, smooth = rows
    for column in ("train_loss", "test_top1_error_percent", "test_top5_error_percent"):
        assert plain[column] == smooth[column]
    assert plain["test_loss"] != smooth["test_loss"]


@pytest.mark.parametrize("random", [False, True])
def test_evolve(whole, tmp_path, random):
    folder, _ = whole
    settings = EvolveSettings(
        supernet=str(folder),
        dataset="digits",
        search_images=32,
        batch_size=32,
        targets=(3.0, 4.0),
        tolerance=0.2,
        population=3,
        generations=1,
        parents=2,
        random=random,
        recalibrate=1 if random else 0,
    )
    result = evolve(settings, options(tmp_path / "evolve", "evolve"))
    for row in result["architectures"]:
        assert abs(row["lookup_cost"] - row["target"]) <= 0.2
    assert (tmp_path / "evolve" / "architecture-3.json").exists()


def test_recalibration_changes_only_the_copy(whole):
    from papers.sgnas.method.scoring import recalibrated

    class Fixed:
        def epoch(self, number):
            generator = torch.Generator().manual_seed(1)
            return iter([(torch.randn(8, 3, 32, 32, generator=generator), None) for _ in range(2)])

    supernet = load_supernet(whole[0])
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    path = [[0, 1, 3, 3, 3, 3]] * 5
    fresh = recalibrated(supernet, path, Fixed(), 2)
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())
    with torch.no_grad():
        stems = [supernet.first.conv(x) for x, _ in Fixed().epoch(0)]
    mean = torch.stack([stem.mean((0, 2, 3)) for stem in stems]).mean(0)
    torch.testing.assert_close(fresh.first.bn.running_mean, mean, rtol=1e-4, atol=1e-5)


def test_user_errors(whole, tmp_path):
    folder, _ = whole
    with pytest.raises(UserError, match="prior pool was made for"):
        search(replace(SMALL, prior_pool=str(folder / "prior_pool.json"), high=5.5), options(tmp_path / "a"))
    with pytest.raises(UserError, match="lie outside this space"):
        search(replace(SMALL, low=270.0, high=450.0, targets=(300.0,)), options(tmp_path / "b"))
    with pytest.raises(UserError, match="needs a trained supernet"):
        search_generator(SMALL, options(tmp_path / "c"))
    with pytest.raises(UserError, match="is a supernet of the tiny structure"):
        other = replace(
            SMALL, macro="cifar", low=80.0, high=120.0, targets=(100.0,), supernet=str(folder), prior_tolerance=1.0
        )
        search_generator(other, options(tmp_path / "d"))
    with pytest.raises(UserError, match="not below"):
        search(replace(SMALL, low=5.0, high=2.5), options(tmp_path / "e"))
    with pytest.raises(UserError, match=r"latency table|no file"):
        search(replace(SMALL, latency_table=str(folder / "result.json")), options(tmp_path / "f"))
