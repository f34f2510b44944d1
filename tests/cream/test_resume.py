"""Runs that were stopped and go on: the same bytes as of those that were not."""

import pytest

from papers.cream import search as search_stage
from papers.cream import train as train_stage
from papers.cream.search import search
from papers.cream.studies.rank_study import rank_study
from papers.cream.train import train
from tests.cream.tools import SEARCH, TRAIN, options, stopped_at


def test_a_search_resumed_inside_an_epoch(searched, tmp_path):
    with stopped_at(search_stage, "train_student", 7):  # third batch of the second epoch: board, momentum and owed
        with pytest.raises(KeyboardInterrupt):  # idle steps are all in play
            search(SEARCH, options(tmp_path, "search"))
        search(SEARCH, options(tmp_path, "search"))
    for name in ("result.json", "architecture.json", "history.csv", "supernet.safetensors"):
        assert (tmp_path / name).read_bytes() == (searched[0] / name).read_bytes(), name


def test_a_search_resumed_after_the_last_step_of_an_epoch(searched, tmp_path):
    """A kill during the validation finds all steps of the epoch done."""
    with stopped_at(search_stage, "path_error", 1):
        with pytest.raises(KeyboardInterrupt):
            search(SEARCH, options(tmp_path, "search"))
        assert search(SEARCH, options(tmp_path, "search")) == searched[1]
    assert (tmp_path / "history.csv").read_text() == (searched[0] / "history.csv").read_text()


def test_a_training_resumed_inside_an_epoch(trained, tmp_path):
    with stopped_at(train_stage, "train_step", 4):
        with pytest.raises(KeyboardInterrupt):
            train(TRAIN, options(tmp_path, "train"))
        train(TRAIN, options(tmp_path, "train"))
    for name in ("result.json", "history.csv", "weights.safetensors", "weights_raw.safetensors"):
        assert (tmp_path / name).read_bytes() == (trained[0] / name).read_bytes(), name


def test_a_rank_study_resumed_inside_a_training(studied, study, tmp_path):
    # inside the second epoch of the first path and the first of the second
    with stopped_at(train_stage, "train_step", 4, 9) as calls:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                rank_study(study, options(tmp_path, "rank_study"))
        rank_study(study, options(tmp_path, "rank_study"))
    assert len(calls) == 3 * 2 * 3 + 2  # nothing was trained twice
    for name in ("result.json", "rank.csv", "history.csv"):
        assert (tmp_path / name).read_bytes() == (studied[0] / name).read_bytes(), name
