"""Folders list one class after the other: whatever part of such a set a command takes, it holds every class.

Each command runs up to its first gradient; by then it has opened its set and taken its parts.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from PIL import Image

from common.cli import verbs as cli
from common.data.pictures.batches import Pictures
from common.data.sets import Images

CLASSES, TRAINING, TESTING = 20, 50, 5
SMALL = ("--channels", "4", "--train-images", "200")
COMMANDS = {
    "nsas search": ("--select-images", "100", "--select-batch-size", "50", *SMALL),
    "nsas search --method gdas": SMALL,
    "nsas search --space nb201": ("--select-images", "100", *SMALL),
    "nsas search --space nb201 --method gdas": SMALL,
    "nsas train": ("--arch", "Random_NSAS", *SMALL),
    "nsas experiments": ("--rank-images", "100", *SMALL),
    "evnas search": ("--fitness-images", "60", "--fitness-batch-size", "60", *SMALL),
    "evnas search --space nb201": ("--fitness-images", "60", "--fitness-batch-size", "60", *SMALL),
    "evnas train": ("--arch", "EvNASA", *SMALL),
    "nao_v2 search": ("--valid-images", "100", *SMALL),
    "nao_v2 random-search": ("--valid-images", "100", *SMALL),
    "nao_v2 rank-study": ("--valid-images", "100", *SMALL),
    "nao_v2 train": ("--arch", "NAONet_V2", *SMALL),
    "cream search": ("--holdout", "100", "--choose", "rescore", "--select-images", "60"),
    "cream train": ("--arch", "14", "--train-images", "200"),
    "sgnas search": ("--train-images", "200", "--search-images", "100"),
    "sgnas train": ("--arch", "SGNAS-A", "--train-images", "200"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty class folders of 50 training and 5 test pictures of 32 x 32 pixels."""
    root = tmp_path_factory.mktemp("sets") / "sorted"
    for label in range(CLASSES):
        for part, count in (("train", TRAINING), ("val", TESTING)):
            (root / part / f"c{label:02d}").mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (32, 32), (12 * label, i, 99)).save(root / part / f"c{label:02d}" / f"{i:02d}.bmp")
    return root


class Reached(BaseException):
    """The first gradient: the data are open."""


SAME_PARTS = (  # as another command of the paper
    "nsas search --method gdas", "nsas search --space nb201 --method gdas", "nsas experiments",
    "evnas search --space nb201", "nao_v2 random-search", "nao_v2 rank-study",
)  # fmt: skip


@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=pytest.mark.slow if c in SAME_PARTS else ()) for c in COMMANDS]
)
def test_every_part_holds_every_class(folder, tmp_path, monkeypatch, command):
    parts: list[tuple[int, int]] = []  # images and classes of every part taken

    def recorded(original):
        def subset(self, indices):
            part = original(self, indices)
            parts.append((len(part), len(np.unique(np.asarray(part.labels)))))
            return part

        return subset

    def reached(*args, **kwargs):
        raise Reached

    for kind in (Images, Pictures):
        monkeypatch.setattr(kind, "subset", recorded(kind.subset))
    monkeypatch.setattr(torch.Tensor, "backward", reached)
    monkeypatch.setattr(torch.autograd, "grad", reached)
    paper, *words = command.split()
    verbs = importlib.import_module(f"papers.{paper}.__main__").VERBS
    words += [*COMMANDS[command], "--dataset", f"{folder}@32", "--out", str(tmp_path / "run"), "--device", "cpu"]
    with pytest.raises(Reached):
        cli.main(paper, verbs, words)
    assert parts and all(classes == CLASSES for _, classes in parts), parts
    assert all(images < CLASSES * TRAINING for images, _ in parts), parts
