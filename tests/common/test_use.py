"""``common.use``: pictures as tests see them, tables, what starts anew, files that equal the module."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common.cli.verbs import RunOptions
from common.data.sets import open_images
from common.errors import UserError
from common.run import outputs
from common.use import export as exporting
from common.use.finetune import Start
from common.use.predict import Square, View, as_text, picture_paths, predict, rows
from common.use.settings import Export, Predict
from common.weights.read import Checkpoint

CLASSES = ("cat", "dog, small", "mouse")


class Brightest(nn.Module):
    """Which of the three channels is brightest."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.classifier = nn.Linear(3, 3)
        self.classifier.load_state_dict({"weight": torch.eye(3), "bias": torch.tensor([0.0, 0.0, bias])})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(images.mean((2, 3)))


def view(size=8):
    return View(Square(size), size, (0.5,) * 3, (0.25,) * 3, CLASSES)


@pytest.fixture
def kinds(tmp_path):
    """A folder of class folders, a picture of every kind in each."""
    rng = np.random.RandomState(0)
    for label, name in enumerate(CLASSES):
        folder = tmp_path / "set" / name
        folder.mkdir(parents=True)
        pixels = rng.randint(0, 120, (12, 20, 3)).astype(np.uint8)
        pixels[..., label] += 100
        colour = Image.fromarray(pixels)
        colour.convert("L").save(folder / "grey.png")
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "grey16.png")
        colour.convert("P").save(folder / "palette.png")
        colour.convert("RGBA").save(folder / "alpha.png")
        colour.convert("CMYK").save(folder / "print.jpg")
        turned = Image.Exif()
        turned[0x0112] = 6
        colour.save(folder / "turned.jpg", exif=turned)
    return tmp_path / "set"


def test_pictures_of_every_kind_are_seen_as_in_tests(kinds):
    paths = picture_paths([str(kinds)])
    seen = torch.stack([view().pixels_of(path) for path in paths])
    for name in ("train", "test"):
        held = open_images(f"{kinds}@8", name)
        at = {"train": [i for i in range(18) if i % 6 != 4], "test": [4, 10, 16]}[name]
        assert torch.equal(held.pixels, seen[at])
    found = list(rows(Brightest(), view(), paths, 2, batch_size=4))
    assert [row["rank"] for row in found[:4]] == [1, 2, 1, 2] and len(found) == 36
    best = {row["image"]: row["class"] for row in found if row["rank"] == 1}
    assert {best[str(kinds / name / "alpha.png")] for name in CLASSES} == set(CLASSES)
    logits = Brightest()(view().normalised(seen)).softmax(1)
    assert found[0]["probability"] == pytest.approx(float(logits[0].max()), rel=1e-5)


def test_files_folders_and_patterns(kinds, monkeypatch):
    monkeypatch.chdir(kinds)
    assert len(picture_paths(["cat", "cat/grey.png", "*/grey*.png"])) == 6 + 4
    assert [str(path) for path in picture_paths(["mouse/grey.png", "cat/*.jpg"])] == [
        "mouse/grey.png", "cat/print.jpg", "cat/turned.jpg",
    ]  # fmt: skip
    (kinds / "empty").mkdir()
    for given, said in (([], "no pictures given"), (["empty"], "holds no picture"), (["no.png"], "no.png: no such"),
                        (["x*.png"], "no file matches")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            picture_paths(given)


def options(**changes):
    return RunOptions(**{"device": "cpu", "paper": "x", "section": "predict", "given": frozenset(), **changes})


def test_tables(kinds):
    asked = Predict(images=(str(kinds / "cat" / "grey.png"), str(kinds / "dog, small" / "alpha.png")), top=1)
    text = predict(Brightest(), view(), asked, options())
    assert text.splitlines()[0] == "image,rank,class,probability" and len(text.splitlines()) == 3
    assert '"dog, small"' in text.splitlines()[2]
    found = predict(Brightest(), view(), asked, options(json=True))
    assert found[1]["class"] == "dog, small" and json.loads(as_text(found, "json")) == found
    for given, changes, said in (
        ({"format"}, {"json": True}, "--json and --format csv"),
        ({"top"}, {}, "--top 4: there are 3 classes"),
    ):
        with pytest.raises(UserError, match=said):
            predict(
                Brightest(), view(), Predict(images=asked.images, top=4), options(given=frozenset(given), **changes)
            )


def test_unreadable_pictures_are_all_named_and_nothing_is_written(kinds, tmp_path, capsys):
    (kinds / "cat" / "cut.png").write_bytes((kinds / "cat" / "alpha.png").read_bytes()[:60])
    (kinds / "mouse" / "words.jpg").write_text("no picture")
    asked = Predict(images=(str(kinds),), batch_size=4)
    with pytest.raises(UserError, match="2 of 20 pictures cannot be read"):
        predict(Brightest(), view(), asked, options(out=tmp_path / "table.csv"))
    said = capsys.readouterr()
    assert not (tmp_path / "table.csv").exists() and not said.out
    assert [line for line in said.err.splitlines() if "cut.png" in line or "words.jpg" in line] == said.err.splitlines()


def test_a_table_is_written_over_its_own_files_only(kinds, tmp_path):
    asked, out = Predict(images=(str(kinds),), top=1), tmp_path / "made" / "table.csv"
    for _ in range(2):
        outputs.own(out.parent)
        assert predict(Brightest(), view(), asked, options(out=out)) == {"file": str(out), "images": 18}
        outputs.leave(out.parent)
    assert len(out.read_text().splitlines()) == 19
    mine = out.with_name("mine.csv")
    mine.write_text("mine")
    outputs.own(out.parent)
    with pytest.raises(UserError, match=r"mine.csv is no file of this suite"):
        predict(Brightest(), view(), asked, options(out=mine))
    outputs.leave(out.parent)
    assert mine.read_text() == "mine"
    with pytest.raises(UserError, match="is a folder; give a file"):
        predict(Brightest(), view(), asked, options(out=tmp_path))


class Net(nn.Module):
    def __init__(self, classes=3, auxiliary=True, width=2):
        super().__init__()
        self.body = nn.Linear(2, width)
        if auxiliary:
            self.auxiliary_head = nn.Linear(width, classes)
        self.classifier = nn.Linear(width, classes)


def start(net, tmp_path, **metadata):
    tensors = net.state_dict()
    return Start(tmp_path / "w", Checkpoint(tensors, "", "", False, {}, metadata, "w"), tensors, 3)


@pytest.mark.parametrize(
    ("metadata", "net", "classes", "anew"),
    [
        ({"class_names": list("abc")}, Net(), "abc", []),
        ({}, Net(), "abc", []),  # nobody says the names
        ({"class_names": list("abc")}, Net(), "abd", ["classifier", "auxiliary_head"]),
        ({}, Net(classes=4), "abcd", ["classifier", "auxiliary_head"]),
        ({"dataset": "cifar10"}, Net(classes=4, auxiliary=False), "abcd", ["classifier"]),
    ],
)
def test_what_starts_anew(metadata, net, classes, anew, tmp_path, capsys):
    held, before = Net(), {name: value.clone() for name, value in net.state_dict().items()}
    said = start(held, tmp_path, **metadata).into(net, tuple(classes), "set")
    assert said["starts_anew"] == anew and said["classes"] == 3
    for name, value in net.state_dict().items():
        source = before if name.partition(".")[0] in anew else held.state_dict()
        assert torch.equal(value, source[name]), name
    assert ("anew" in capsys.readouterr().err) is bool(anew)


def test_a_head_that_the_file_lacks_starts_anew_and_a_body_must_fit(tmp_path):
    assert start(Net(auxiliary=False), tmp_path).into(Net(), tuple("abc"), "set")["starts_anew"] == ["auxiliary_head"]
    assert start(Net(), tmp_path).into(Net(auxiliary=False), tuple("abc"), "set")["starts_anew"] == []
    other = Net(width=5)
    before = other.body.weight.clone()
    with pytest.raises(UserError, match="does not fit this architecture"):
        start(Net(), tmp_path).into(other, tuple("abc"), "set")
    assert torch.equal(other.body.weight, before)


@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_a_file_takes_any_number_of_images_and_says_what_it_is_of(form, tmp_path):
    if form == "onnx":
        for name in exporting.PACKAGES:
            pytest.importorskip(name)
    net, out = Brightest().eval(), tmp_path / "net"
    said = exporting.export(net, view(), Export(format=form), options(out=out))
    assert said["max_abs_difference"] <= 1e-6 and said["bytes"] == os.path.getsize(out)
    images = torch.randn(7, 3, 8, 8)
    if form == "torchscript":
        extra = {exporting.ABOUT: ""}
        found, about = torch.jit.load(out, _extra_files=extra)(images), json.loads(extra[exporting.ABOUT])
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        kept = session.get_modelmeta().custom_metadata_map
        about = {name: json.loads(kept[name]) for name in ("classes", "mean", "pixels")}
    torch.testing.assert_close(found, net(images))
    assert about["classes"] == list(CLASSES) and about["mean"] == [0.5] * 3 and about["pixels"] == 8


def test_a_file_that_differs_is_not_kept(tmp_path, monkeypatch):
    real = exporting.as_torchscript
    monkeypatch.setattr(exporting, "as_torchscript", lambda net, *rest: real(Brightest(bias=1e-3), *rest))
    with pytest.raises(UserError, match=r"differ from the module's by 0.001, more than 0.0001; nothing was written"):
        exporting.export(Brightest(), view(), Export(format="torchscript"), options(out=tmp_path / "net.pt"))
    monkeypatch.setattr(exporting, "as_torchscript", lambda net, *rest: (b"", lambda images: net(images)[:2]))
    with pytest.raises(UserError, match=r"the file gives \[2, 3\] for 5 images"):
        exporting.export(Brightest(), view(), Export(format="torchscript"), options(out=tmp_path / "net.pt"))
    monkeypatch.setattr(exporting, "PACKAGES", ("onnx_that_nobody_has",))
    with pytest.raises(UserError, match=r"needs onnx_that_nobody_has: pip install '.\[export\]'"):
        exporting.export(Brightest(), view(), Export(), options(out=tmp_path / "net.pt"))
    assert not (tmp_path / "net.pt").exists()
