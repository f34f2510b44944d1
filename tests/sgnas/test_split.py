"""Which images the supernet sees and which the generator, and the record of it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common.cli.verbs import RunOptions
from common.errors import UserError
from papers.sgnas.data import sets as datasets
from papers.sgnas.data.split import Split, provenance_of
from papers.sgnas.search import search_generator
from papers.sgnas.studies.evolve import evolve
from papers.sgnas.studies.settings import Evolve
from tests.sgnas.small import FLAGS, SMALL, mistake, options


def test_another_set_or_another_recipe_is_refused(trained, tmp_path):
    record = provenance_of(trained)
    images = datasets.open_set("digits", "test", options(None))
    with pytest.raises(UserError, match="is not that set"):
        record.check_set("digits", images)
    base = replace(SMALL, train_images=64, active="prefix", supernet=str(trained))
    for change in ({"train_images": 32}, {"train_portion": 0.7}, {"active": "random"}):
        name = next(iter(change)).replace("_", "-")
        with pytest.raises(UserError, match=f"the supernet was trained with --{name}"):
            search_generator(replace(base, **change), options(tmp_path / name, "search_generator"))
    (tmp_path / "old").mkdir()
    about = json.loads((trained / "supernet.json").read_text())
    (tmp_path / "old" / "supernet.json").write_text(json.dumps({**about, "provenance": None}))
    with pytest.raises(UserError, match="does not say which images"):
        evolve(Evolve(supernet=str(tmp_path / "old")), options(tmp_path / "e", "evolve"))


def test_a_damaged_record_is_refused(trained, tmp_path):
    """Whatever stands in a field in place of what belongs there: one line, no traceback."""
    whole = json.loads((trained / "supernet.json").read_text())
    (tmp_path / "supernet.safetensors").write_bytes((trained / "supernet.safetensors").read_bytes())
    fields = [(n,) for n in ("macro", "input_size", "classes", "space", "provenance")]
    fields += [("provenance", n) for n in whole["provenance"]]
    fields += [("provenance", "split", n) for n in whole["provenance"]["split"]]
    run = options(tmp_path / "e", "evolve")
    wanted = Evolve(supernet=str(tmp_path), targets=(3.5,), population=1, generations=0, search_images=8)
    for place in fields:
        for value in (None, "x", [1], -1.5, ...):
            about = json.loads(json.dumps(whole))
            inside = about
            for name in place[:-1]:
                inside = inside[name]
            if value is ...:
                del inside[place[-1]]
            else:
                inside[place[-1]] = value
            (tmp_path / "supernet.json").write_text(json.dumps(about))
            with pytest.raises(UserError):
                evolve(wanted, run)


@pytest.mark.parametrize(
    ("portion", "wanted", "sizes"),
    [(0.8, 0, (80, 20)), (0.5, 0, (50, 50)), (0.8, 10, (80, 10)), (1.0, 30, (70, 30)), (0.5, 30, (50, 30))],
)
def test_train_portion_acts_on_folders(portion, wanted, sizes):
    """Sets listed class by class: both parts hold every class."""
    from common.data.pictures.batches import Pictures

    labels = np.repeat(np.arange(5), 20)
    pictures = Pictures(None, labels, np.arange(100), tuple("abcde"), "folder")
    first, second = Split(portion, 0, wanted).parts(pictures)
    assert (len(first), len(second)) == sizes
    assert not set(first.positions) & set(second.positions)
    assert (
        np.bincount(first.labels).min() >= sizes[0] // 5 - 1 and np.bincount(second.labels).min() >= sizes[1] // 5 - 1
    )
    with pytest.raises(UserError, match="set --search-images to 20 or less"):
        Split(0.8, 0, 30).parts(pictures)
    with pytest.raises(UserError, match="set --search-images to 20 or less"):
        Split(1.0, 0, 0).parts(pictures)


def test_sets_at_a_fraction_of_their_size(capsys):
    from papers.sgnas.data.sets import open_set

    if not (Path(os.environ.get("NAS_DATA", "data")) / "cifar-10-batches-py").is_dir():
        pytest.skip("CIFAR-10 is not under the data root (NAS_DATA)")
    whole, half = (open_set(name, "test", RunOptions()) for name in ("cifar10", "cifar10@16"))
    blocks = whole.pixels[:5].float().unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)).round().byte()
    assert half.size == 16 and torch.equal(half.pixels[:5], blocks) and torch.equal(half.labels, whole.labels)
    assert "a size that divides 32" in mistake(capsys, "search", *FLAGS, "--dataset", "cifar10@5")
