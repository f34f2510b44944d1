"""Runs and pictures that several tests look at."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from papers.sgnas.method.trained_generator import load_generator
from papers.sgnas.search import search, search_supernet
from tests.sgnas.small import FLAGS, SMALL, command, options


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """(folder, result) of a search with both phases."""
    folder = tmp_path_factory.mktemp("sgnas") / "whole"
    return folder, search(SMALL, options(folder))


@pytest.fixture(scope="session")
def searched(tmp_path_factory):
    """Folder of a search that was started by its command."""
    folder = tmp_path_factory.mktemp("sgnas") / "search"
    command("search", *FLAGS, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A supernet of 64 images under the sampling ``prefix``; the set has 3,200 more for the first part."""
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("sgnas") / "supernet"
    search_supernet(replace(SMALL, train_images=64, active="prefix"), options(folder, "search_supernet", seed=3))
    return folder


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """Twelve training and six test pictures in three classes, in folders and packed by the command."""
    root, draw = tmp_path_factory.mktemp("pictures"), np.random.RandomState(0)
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(("a cat", "b dog", "c")):
            (root / "tree" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = (draw.rand(60 + 10 * number, 70, 3) * 80 + 60 * label).astype(np.uint8)
                Image.fromarray(pixels).save(root / "tree" / split / name / f"picture {number}.png")
    command("convert-lmdb", root / "tree", root / "lmdb")
    return root


@pytest.fixture
def published():
    """The published generator."""
    root = Path(os.environ.get("NAS_DATA", "data"))
    if not (root / "sgnas" / "generator_imagenet.npz").exists():
        pytest.skip("the published generator is not under the data root (NAS_DATA)")
    return load_generator("published", data=root)
