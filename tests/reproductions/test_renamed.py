"""Committed results keep the names they were made with, and are found under today's."""

import importlib
import json

import pytest

from common.papers import PAPERS
from common.settings import field_types
from reproductions.compare.renamed import OLD_NAMES, OLD_STAGES, OLD_VALUES, settings_today
from reproductions.results import load, read


def stages(paper):
    verbs = importlib.import_module(f"papers.{paper}.__main__").VERBS
    return {stage.section: stage.settings for verb in verbs.values() for stage in verb.stages.values()}


@pytest.mark.parametrize("paper", PAPERS)
def test_the_table_names_settings_that_are_there_today(paper):
    known = stages(paper)
    assert set(OLD_STAGES.get(paper, {}).values()) <= set(known)
    for stage, names in OLD_NAMES.get(paper, {}).items():
        fields = field_types(known[stage])
        assert set(names.values()) <= set(fields), stage
        assert not (set(names) - set(names.values())) & set(fields), stage
    for setting in OLD_VALUES.get(paper, {}):
        assert any(setting in field_types(cls) for cls in known.values()), setting


GONE = {
    "cream": {"eval_every"},  # of the rank study, which tests at the end only
    "nao_v2": {"scale_with_processes"},
    "nsas": {"structure_bug"},
    "sgnas": {"classes"},
}  # since, before the renames


@pytest.mark.parametrize("paper", PAPERS)
def test_committed_results_have_todays_names(paper):
    known, found = stages(paper), load(paper=paper, profile="proxy")
    assert found
    for result in found:
        unknown = set(result.settings) - set(field_types(known[result.stage])) - GONE.get(paper, set())
        assert not unknown, f"{result.path}: {sorted(unknown)} are no settings of {paper} {result.stage}"
        renamed = OLD_NAMES.get(paper, {}).get(result.stage, {})
        assert not (set(renamed) - set(renamed.values())) & set(result.settings), result.path


def test_an_old_result_is_read_under_todays_names(tmp_path):
    path = tmp_path / "proxy" / "cream" / "search-0" / "result.json"
    path.parent.mkdir(parents=True)
    old = {"smoothing": 0.1, "idle": "move", "lr": 0.1}
    path.write_text(json.dumps({"paper": "cream", "stage": "search", "seed": 0, "settings": old}))
    assert read(path).settings == {"label_smoothing": 0.1, "zero_grad": "zeros", "lr": 0.1}
    assert json.loads(path.read_text())["settings"] == old


def test_names_that_changed_places(monkeypatch):
    monkeypatch.setitem(OLD_NAMES, "p", {"s": {"size": "images", "images": "augment"}})
    monkeypatch.setitem(OLD_VALUES, "p", {"augment": {"augmented": True, "plain": False}})
    assert settings_today("p", "s", {"size": 5, "images": "plain"}) == {"images": 5, "augment": False}
    new = {"images": 5, "augment": True}
    assert settings_today("p", "s", new) == new
