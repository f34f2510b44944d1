"""Folders packed into LMDBs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from common.cli.verbs import RunOptions
from common.data.pictures.lmdb import LmdbStore
from common.errors import UserError
from papers.sgnas.data.convert import convert_lmdb
from papers.sgnas.settings import Convert


def test_lmdb(tmp_path):
    for split in ("train", "val"):
        for name in ("cat two", "dog"):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = np.full((20, 24, 3), 40 * number, np.uint8)
                Image.fromarray(pixels).save(folder / f"picture {number}.png")
    written = convert_lmdb(Convert(str(tmp_path / "pictures"), str(tmp_path / "packed")), RunOptions())
    assert written == {"written": {"train": 6, "val": 6}}
    store = LmdbStore(tmp_path / "packed" / "train.lmdb")
    assert list(store.labels) == [0, 0, 0, 1, 1, 1] and store.classes == ("cat two", "dog")
    with pytest.raises(UserError, match="exists already"):
        convert_lmdb(Convert(str(tmp_path / "pictures"), str(tmp_path / "packed")), RunOptions())
    shutil.copytree(tmp_path / "pictures" / "val" / "dog", tmp_path / "pictures" / "test" / "dog")
    written = convert_lmdb(Convert(str(tmp_path / "pictures"), str(tmp_path / "three")), RunOptions())
    assert written == {"written": {"train": 6, "val": 6, "test": 3}}
    with pytest.raises(UserError, match="is no folder"):
        convert_lmdb(Convert(str(tmp_path / "absent"), str(tmp_path / "x")), RunOptions())
