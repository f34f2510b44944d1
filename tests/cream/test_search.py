"""The search as a whole: phases, baseline, variant, parts of its set (tiny runs on the embedded digits)."""

import json
from dataclasses import replace

import numpy as np
import pytest

from common.errors import UserError
from papers.cream.data.sets import search_parts
from papers.cream.search import search
from papers.cream.settings import MODERN_SEARCH
from tests.cream.tools import SCORED, SEARCH, options


def test_all_phases_are_reached(searched):
    folder, result = searched
    metrics = result["metrics"]
    assert metrics["iterations"] == 8 and metrics["distilled"] == 3 and metrics["meta_updates"] == 1
    assert metrics["board_size"] == 2 and result["board"][0]["path"] == result["architecture"]["path"]
    written = json.loads((folder / "architecture.json").read_text())
    assert written["space"] == "cream" and written["architecture"]["path"] == result["architecture"]["path"]
    assert len((folder / "history.csv").read_text().splitlines()) == 3


def test_a_finished_run_is_recognised(searched):
    folder, _ = searched
    before = (folder / "result.json").read_bytes()
    search(SEARCH, options(folder, "search"))
    assert (folder / "result.json").read_bytes() == before


def test_another_setting_is_refused(searched):
    folder, _ = searched
    with pytest.raises(UserError, match="acc_gap"):
        search(replace(SEARCH, acc_gap=1.0), options(folder, "search"))


def test_random_baseline(tmp_path):
    result = search(replace(SEARCH, method="random", candidates=3, **SCORED), options(tmp_path, "search"))
    assert result["metrics"]["distilled"] == 0 and result["metrics"]["board_size"] == 0
    assert 1 <= len(result["scored"]) <= 3 and result["scored"][0]["path"] == result["architecture"]["path"]


def test_modern_preset(tmp_path):
    changes = {**MODERN_SEARCH, **SCORED, "holdout": 16, "macs_min": 80.0, "macs_max": 110.0}
    result = search(replace(SEARCH, **changes), options(tmp_path, "search"))
    assert all(80 <= row["mflops"] <= 110 for row in result["board"]) and result["scored"]


def test_parts_of_a_folder_hold_every_class(class_folders):
    """A folder lists one class after the other; the subset of the rank study is by rule."""
    settings = replace(SEARCH, dataset=str(class_folders), train_images=8, holdout=4, batch_size=2, parts=0, slice=1)
    searched, held_out, test = search_parts(settings, 32, options(None, "search"))
    for part in (searched, held_out):
        assert np.bincount(part.labels).tolist() == [2, 2]
    with pytest.raises(UserError, match=r"8 training images of 2 classes .* use --holdout 2"):
        search_parts(replace(settings, holdout=1), 32, options(None, "search"))
    searched, held_out, test = search_parts(
        replace(settings, train_images=0, holdout=0, subset_classes=1, subset_images=3), 32, options(None, "search")
    )
    assert (len(searched), len(test), held_out) == (3, 4, None) and searched.classes == test.classes == ("a",)
