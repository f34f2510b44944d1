"""A run that is stopped inside an epoch, or inside its selection, goes on there and ends with the same bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.nsas.small import (
    EXPERIMENT,
    NB201_RANDOM,
    RECURRENT,
    STAGES,
    Stop,
    equal_folders,
    module_of,
    options,
    step_of,
    stop_at,
)


@pytest.mark.parametrize("stage", STAGES)
def test_resume_inside_an_epoch(stage, tmp_path, monkeypatch):
    target, settings, each = STAGES[stage]
    module, run = module_of(target)
    if stage == "train_ptb":  # the second epoch averages
        monkeypatch.setattr(module, "switches_to_averaging", lambda *_: True)
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "60")
    run(settings, options(tmp_path / "whole", stage))
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    place, name = step_of(module, each)
    original = getattr(place, name)
    calls = {"train_ptb": 7, "search_ptb": 5, "search_ptb_fixed": 5, "train": 6}.get(stage, 4)
    stop_at(monkeypatch, place, name, calls)
    with pytest.raises(Stop):
        run(settings, options(tmp_path / "broken", stage))
    monkeypatch.setattr(place, name, original)
    history = (tmp_path / "broken" / "history.csv").read_text().splitlines()
    assert len(history) == 2  # one epoch was done, the second had begun
    run(settings, options(tmp_path / "broken", stage))
    equal_folders(tmp_path / "whole", tmp_path / "broken")


# run, settings, function that scores a cell, its call for the last candidate
SELECTIONS = {
    "search_nb201_random": ("nasbench201.search_random:search", NB201_RANDOM, "score_random_cell", 8),
    "search_ptb": ("recurrent.search:search", RECURRENT, "text_loss", 4),
    "experiments": ("studies.forgetting:experiment", EXPERIMENT, "score", 3),
    "experiments_on_the_way": ("studies.forgetting:experiment", replace(EXPERIMENT, rank_every=1), "two_scores", 5),
}


@pytest.mark.parametrize("stage", SELECTIONS)
def test_resume_inside_the_selection(stage, tmp_path, monkeypatch):
    target, settings, each, call = SELECTIONS[stage]
    module, run = module_of(target)
    run(settings, options(tmp_path / "whole", stage))
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    original = getattr(module, each)
    stop_at(monkeypatch, module, each, call)
    with pytest.raises(Stop):
        run(settings, options(tmp_path / "broken", stage))
    monkeypatch.setattr(module, each, original)
    again = []
    a_step = "check_finite" if stage.startswith("experiments") else "differentiate"
    monkeypatch.setattr(module, a_step, lambda *_, **__: again.append(1))
    run(settings, options(tmp_path / "broken", stage))
    assert not again
    equal_folders(tmp_path / "whole", tmp_path / "broken")
