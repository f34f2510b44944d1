"""``train --checkpoint``, ``predict`` and ``export`` of every paper, on a small folder of one's own."""

from __future__ import annotations

import csv
import importlib
import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from common.cli.verbs import RunOptions, main
from common.errors import UserError
from common.papers import PAPERS
from common.run.folder import Run
from common.spaces.architecture import save_architecture
from common.weights.read import read_metadata, save_weights

CLASSES = ("a cat", "dog", "mouse")
KERNELS = [[7, 3], [3], [5, 3], [3], [7]]
SMALL = {
    "evnas": {"channels": 2, "layers": 2, "cutout": 0, "batch_size": 8},
    "nsas": {"channels": 2, "layers": 2, "cutout": 0, "batch_size": 8},
    "cream": {
        "arch": "[[0],[3],[3],[3],[3],[3],[0]]", "resolution": 32, "cooldown": 0, "warmup_epochs": 0, "batch_size": 8,
        "parts": 1, "crop": "padded", "randaugment": 0.0, "erasing": 0.0, "ema_decay": 0.5, "schedule": "cosine",
    },
    "sgnas": {
        "se": False, "activation": "relu", "bn_momentum": 0.1, "batch_size": 8, "parts": 0, "optimizer": "sgd",
        "schedule": "cosine", "warmup_epochs": 0, "ema_decay": 0.0,
    },
    "nao_v2": {"channels": 2, "layers": 1, "cutout": 0, "batch_size": 8},
}  # fmt: skip
WRONG = {
    "evnas": {"channels": 4}, "nsas": {"layers": 3}, "cream": {"arch": "14"}, "sgnas": {"se": True},
    "nao_v2": {"arch": "NAONet_V2_2019_09_11"},
}  # fmt: skip
BODY = {"cream": "conv_stem.weight", "sgnas": "first.conv.weight"}


def pictures(folder, classes, count, part=""):
    rng = np.random.RandomState(len(classes))
    for label, name in enumerate(classes):
        (folder / part / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.randint(0, 120, (*rng.randint(24, 60, 2), 3)).astype(np.uint8)
            pixels[..., label] += 60
            picture = Image.fromarray(pixels)
            picture = picture.convert(("RGB", "L", "P", "RGBA")[number % 4])
            if number == 5:
                picture = Image.fromarray(pixels[..., 0].astype(np.uint16) << 8)
            picture.save(folder / part / name / f"{number}.png")


def settings_of(paper, name, **values):
    module = importlib.import_module(f"papers.{paper}.settings")
    return getattr(module, name)(**values)


def run(paper, verb, settings, out, given=frozenset()):
    options = RunOptions(out=out, device="cpu", paper=paper, section=verb, given=frozenset(given))
    return getattr(importlib.import_module(f"papers.{paper}.{verb}"), verb)(settings, options)


@pytest.fixture(scope="module", params=PAPERS)
def trained(request, tmp_path_factory):
    """A training of one epoch on own pictures, of three classes."""
    torch.set_num_threads(1)
    paper, root = request.param, tmp_path_factory.mktemp("use")
    pictures(root / "own", CLASSES, 8, "train")
    pictures(root / "own", CLASSES, 3, "test")
    small = dict(SMALL[paper])
    if paper == "sgnas":
        save_architecture(root / "a.json", "sgnas", {"kernels": KERNELS, "macro": "tiny"})
        small["arch"] = str(root / "a.json")
    settings = settings_of(paper, "Train", dataset=f"{root / 'own'}@32", epochs=1, lr=0.05, **small)
    run(paper, "train", settings, root / "run")
    small.pop("arch", None)
    return SimpleNamespace(paper=paper, root=root, settings=settings, weights=root / "run", small=small)


def command(paper, capsys, *words):
    capsys.readouterr()
    main(paper, importlib.import_module(f"papers.{paper}.__main__").VERBS, [str(word) for word in words])
    return capsys.readouterr().out


def mistake(paper, capsys, *words):
    with pytest.raises(SystemExit) as left:
        command(paper, capsys, *words)
    said = capsys.readouterr()
    assert left.value.code == 2 and not said.out and said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.err


def test_predictions_are_what_evaluate_counts(trained, capsys):
    paper, root, file = trained.paper, trained.root, trained.weights / "weights.safetensors"
    assert read_metadata(file)["class_names"] == list(CLASSES)
    for part in ("test", "train"):  # a folder of its own is tested on all of it
        shutil.copytree(root / "own" / part, root / part / "test")
        shutil.copytree(root / "own" / "train", root / part / "train")
        settings = settings_of(paper, "Evaluate", checkpoint=str(file), dataset=f"{root / part}@32")
        tested = run(paper, "evaluate", settings, root / f"evaluate {part}", {"dataset"})["metrics"]
        text = command(paper, capsys, "predict", "--checkpoint", trained.weights, root / "own" / part, "--top", "3")
        rows = [row for row in csv.DictReader(io.StringIO(text)) if row["rank"] == "1"]
        wrong = [row for row in rows if f"/{row['class']}/" not in row["image"]]
        assert len(rows) == 3 * {"test": 3, "train": 8}[part]
        assert tested["top1_error_percent"] == pytest.approx(100 * len(wrong) / len(rows))


def test_fine_tuning_takes_all_weights_or_all_but_the_heads(trained, tmp_path):
    """At a learning rate of 0 the weights are those that were loaded."""
    paper, file = trained.paper, trained.weights / "weights.safetensors"
    held = load_file(file)
    key = next(k for k in held if k == BODY.get(paper) or (k.startswith("cells.0.") and held[k].ndim == 4))
    pictures(tmp_path / "other", ("x", "y"), 10)
    recipe = {k: v for k, v in trained.small.items() if k not in ("channels", "layers", "se", "activation")}
    common = {**recipe, "checkpoint": str(file), "epochs": 1, "lr": 0.0}
    for name, own, classes in (("same", f"{trained.root / 'own'}@32", 3), ("others", f"{tmp_path / 'other'}@32", 2)):
        common |= {"batch_size": 8}
        result = run(paper, "train", settings_of(paper, "Train", dataset=own, **common), tmp_path / name)
        anew = result["started_from"]["starts_anew"]
        assert ("classifier" in anew) is (classes == 2) and result["started_from"]["classes"] == 3
        made = load_file(tmp_path / name / "weights.safetensors")
        assert torch.equal(made[key], held[key])
        head = next(k for k in made if k.startswith("classifier") and k.endswith("weight"))
        assert len(made[head]) == classes
        assert classes == 2 or torch.allclose(made[head], held[head])
        about = read_metadata(tmp_path / name / "weights.safetensors")
        assert about["architecture"] == read_metadata(file)["architecture"]
        assert result["settings"]["checkpoint"].endswith("weights.safetensors") and "checkpoint" in result["files"]


def test_flags_that_contradict_the_weights_are_refused(trained, tmp_path):
    paper, wrong = trained.paper, WRONG[trained.paper]
    values = {**trained.small, **wrong, "checkpoint": str(trained.weights), "dataset": trained.settings.dataset}
    with pytest.raises(UserError, match=f"--{next(iter(wrong))}|another architecture|is of architecture"):
        run(paper, "train", settings_of(paper, "Train", epochs=1, **values), tmp_path / "no", set(wrong))
    assert not (tmp_path / "no" / "weights.safetensors").exists()
    with pytest.raises(UserError, match="--checkpoint absent: there is no file"):
        run(paper, "train", settings_of(paper, "Train", checkpoint="absent"), tmp_path / "no")


def test_a_stopped_fine_tuning_goes_on_and_refuses_another_file(trained, tmp_path, monkeypatch):
    file = tmp_path / "start.safetensors"
    shutil.copy(trained.weights / "weights.safetensors", file)
    values = {**trained.small, "checkpoint": str(file), "dataset": trained.settings.dataset, "epochs": 2, "lr": 0.05}
    settings = settings_of(trained.paper, "Train", **values)
    whole = run(trained.paper, "train", settings, tmp_path / "whole")
    real, calls = Run.log, []

    def stops(self, *words, **row):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *words, **row)

    monkeypatch.setattr(Run, "log", stops)
    with pytest.raises(KeyboardInterrupt):
        run(trained.paper, "train", settings, tmp_path / "stopped")
    monkeypatch.setattr(Run, "log", real)
    state = load_file(file)
    save_weights({name: value * 1.5 if value.is_floating_point() else value for name, value in state.items()}, file,
                 read_metadata(file))  # fmt: skip
    with pytest.raises(UserError, match=r"files.checkpoint"):
        run(trained.paper, "train", settings, tmp_path / "stopped")
    shutil.copy(trained.weights / "weights.safetensors", file)
    again = run(trained.paper, "train", settings, tmp_path / "stopped")
    assert again["metrics"] == whole["metrics"]
    made = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert made[0] == made[1]


def test_what_predict_and_export_cannot_do_is_one_line(trained, capsys, tmp_path):
    paper = trained.paper
    assert "no weights given" in mistake(paper, capsys, "predict", "x.png")
    assert "no pictures given" in mistake(paper, capsys, "predict", "--checkpoint", trained.weights)
    assert "no weights given" in mistake(paper, capsys, "export")
    assert "there is no file" in mistake(paper, capsys, "export", "--checkpoint", tmp_path / "no.safetensors")
    assert "--resume" in mistake(paper, capsys, "predict", "--no-resume").replace("--no-resume", "--resume")


def test_export(trained, capsys, tmp_path):
    words = ("export", "--checkpoint", trained.weights, "--format", "torchscript", "--out", tmp_path / "net.pt")
    said = json.loads(command(trained.paper, capsys, *words, "--json"))
    assert said["max_abs_difference"] <= 1e-4 and said["classes"] == 3 and said["pixels"] == 32
    assert torch.jit.load(tmp_path / "net.pt")(torch.zeros(4, 3, 32, 32)).shape == (4, 3)
