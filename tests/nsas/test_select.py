"""``select`` chooses, from the last state of a killed search, what the search itself chooses at its end."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from common.errors import UserError
from papers.nsas.settings import Select
from papers.nsas.studies.select import SEARCHES, select
from tests.killing import killed_at_save
from tests.nsas.small import STAGES, module_of, options


def killed(monkeypatch, stage: str, folder, state: int, settings=None) -> None:
    """The search ends after its ``state``-th save."""
    target, usual, _ = STAGES[stage]
    with killed_at_save(monkeypatch, state):
        module_of(target)[1](settings or usual, options(folder, SECTIONS.get(stage, stage), seed=3))


SECTIONS = {"search_random": "search", "search_gdas_head": "search_gdas", "search_ptb_fixed": "search_ptb"}
CHOSEN = ("search_random", "search_gdas_head", "search_nb201_random", "search_nb201", "search_ptb", "search_ptb_fixed")


@pytest.mark.parametrize("stage", CHOSEN)
def test_after_the_last_epoch_it_is_the_searchs_own_choice(stage, tmp_path, monkeypatch):
    target, settings, _ = STAGES[stage]
    settings = replace(settings, epochs=1) if stage != "search_nb201" else settings
    section, folder = SECTIONS.get(stage, stage), tmp_path / "search"
    killed(monkeypatch, stage, folder, settings.epochs, settings)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found = select(Select(search=str(folder)), options(tmp_path / "select", "select"))
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert (found["unfinished"], found["epoch"]) == (True, settings.epochs - 1)
    whole = module_of(target)[1](settings, options(folder, section, seed=3))
    assert found["architecture"] == whole["architecture"] and found["metrics"] == whole["metrics"]
    written = [json.loads((where / "architecture.json").read_text()) for where in (folder, tmp_path / "select")]
    assert all(w["architecture"] == whole["architecture"] for w in written)
    with pytest.raises(UserError, match="has ended: its choice is"):
        select(Select(search=str(folder)), options(tmp_path / "again", "select"))


def test_inside_a_search_and_with_other_sizes(tmp_path, monkeypatch):
    killed(monkeypatch, "search_nb201_random", tmp_path / "run", 1)
    asked = Select(search=str(tmp_path / "run"), select_candidates=3, select_images=30)
    found = select(asked, options(tmp_path / "out", "select"))
    assert found["epoch"] == 0 and len((tmp_path / "out" / "candidates.csv").read_text().splitlines()) == 1 + 3
    assert found == select(asked, options(tmp_path / "out", "select"))
    killed(monkeypatch, "search_nb201", tmp_path / "gdas", 1)
    with pytest.raises(UserError, match="--select-candidates: search_nb201 draws no candidates"):
        select(Select(search=str(tmp_path / "gdas"), select_candidates=3), options(tmp_path / "no", "select"))


def test_what_is_no_search(tmp_path, monkeypatch):
    for asked, line in (("", "no search given"), (str(tmp_path), "holds no search; pass --search FOLDER")):
        with pytest.raises(UserError, match=line):
            select(Select(search=asked), options(tmp_path / "out", "select"))
    killed(monkeypatch, "train_ptb", tmp_path / "run", 1)
    with pytest.raises(UserError, match="is an unfinished run of nsas train_ptb; pass the folder of an NSAS search"):
        select(Select(search=str(tmp_path / "run")), options(tmp_path / "out", "select"))
    assert set(SEARCHES) >= {SECTIONS.get(stage, stage) for stage in STAGES if stage.startswith("search")}
