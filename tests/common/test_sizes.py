"""Sizes that nothing can hold are refused by name before memory is asked for; every number has a range."""

import dataclasses
import importlib
import typing

import numpy as np
import pytest
from PIL import Image

from common.cli import verbs as cli
from common.data.augment import Augmentation
from common.data.batches import Batches, as_they_stand
from common.data.names import parse
from common.data.pictures import sets
from common.data.sets import open_images
from common.errors import UserError
from common.papers import PAPERS
from common.settings import field_types

STAGES = sorted(
    {
        stage.settings
        for paper in PAPERS
        for verb in importlib.import_module(f"papers.{paper}.__main__").VERBS.values()
        for stage in verb.stages.values()
    },
    key=lambda cls: (cls.__module__, cls.__name__),
)


def _numbers(kind):
    members = {kind, *typing.get_args(kind)}
    return typing.get_origin(kind) is not typing.Literal and bool(members & {int, float})


@pytest.mark.parametrize("stage", STAGES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_no_number_may_be_far_below_or_above_what_it_means(stage):
    for name, kind in field_types(stage).items():
        if not _numbers(kind):
            continue
        whole = int in {kind, *typing.get_args(kind)}
        for value in (-7, 10**18 if whole else float("inf")):
            value = (value,) if typing.get_origin(kind) is tuple else value
            with pytest.raises(UserError, match=f"^--{name.replace('_', '-')} must be "):
                dataclasses.replace(stage(), **{name: value})


SHORT = [
    ("evnas", "train --layers 3 --channels 65536"), ("evnas", "describe EvNASA --channels 100000000000"),
    ("nsas", "describe --layers 100000000"), ("nao_v2", "describe --classes 99999999999"),
    ("cream", "describe 14 --resolution 99999999"), ("sgnas", "describe --classes 999999999999"),
    ("sgnas", "train --decay-rate -1"), ("evnas", "train --pad 33"), ("evnas", "search --population 1000000000"),
]  # fmt: skip


@pytest.mark.parametrize("paper, command", SHORT)
def test_a_size_beyond_all_machines_is_one_line(paper, command, tmp_path, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch, "empty", _short_of_memory)
    verbs = importlib.import_module(f"papers.{paper}.__main__").VERBS
    with pytest.raises(SystemExit) as stop:
        cli.main(paper, verbs, [*command.split(), "--out", str(tmp_path)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("error: ") == 1 and "Traceback" not in error
    assert command.split()[-2] in error


def _short_of_memory(*sizes, **_):
    raise RuntimeError(f"Storage size calculation overflowed with sizes={sizes}")


def test_a_folder_resized_beyond_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / split / label / "x.png")
    with pytest.raises(UserError, match="at most 9999"):
        parse(f"{tmp_path}@99999")
    with pytest.raises(UserError, match="at most 9999"):
        parse("digits@٣٢")
    monkeypatch.setattr(sets, "available", lambda: 1e6)
    monkeypatch.setattr(sets, "resize_square", None)  # it is not reached
    with pytest.raises(UserError, match=r"2 pictures of 9000 x 9000 pixels take 0.5 GiB of memory.*smaller @SIZE"):
        open_images(f"{tmp_path}@9000", "train")


def test_a_crop_wider_than_the_image_is_refused_before_it_is_padded():
    images = open_images("digits", "test")
    with pytest.raises(UserError, match="--pad 33 is more than the side of its images, 32 pixels"):
        Batches(images, 10, Augmentation((0.5,) * 3, (0.5,) * 3, pad=33), as_they_stand(0))
