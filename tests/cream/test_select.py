"""Choosing again among the paths of a board."""

from dataclasses import replace

import pytest

from common.errors import UserError
from common.run.folder import Run
from papers.cream.search import search
from papers.cream.select import select
from papers.cream.settings import Select
from tests.cream.tools import SCORED, SEARCH, options


def test_select_rescores_the_board(searched, tmp_path):
    folder, result = searched
    chosen = select(Select(search=str(folder), recalibrate_batches=1, select_images=16), options(tmp_path, "select"))
    assert sorted(map(str, (r["path"] for r in chosen["scored"]))) == sorted(str(e["path"]) for e in result["board"])
    assert chosen["held_out"] and (tmp_path / "architecture.json").exists()
    errors = [row["top1_error_percent"] for row in chosen["scored"]]
    assert errors == sorted(errors)
    with pytest.raises(UserError, match="no scored path lies within 1 to 2"):
        select(
            Select(search=str(folder), macs_min=1, macs_max=2, recalibrate_batches=1, select_images=16),
            options(tmp_path / "none", "select"),
        )


def test_nothing_inside_the_window_is_said(tmp_path, capsys):
    """The release never looks at the window: the search goes on with a path outside it, but says so; select refuses."""
    done = search(replace(SEARCH, macs_max=80.0, choose="rescore", **SCORED), options(tmp_path / "a", "search"))
    assert "no scored path lies within 0 to 80 MFLOPs" in "".join(capsys.readouterr())
    assert not done["scored"][0]["inside"]
    with pytest.raises(UserError, match="no scored path lies within 0 to 80 MFLOPs; widen"):
        select(Select(search=str(tmp_path / "a"), recalibrate_batches=1, select_images=16),
               options(tmp_path / "b", "select"))  # fmt: skip


def test_a_killed_search_is_looked_into(tmp_path, monkeypatch):
    """The board and the supernet of its last state; the folder is left as it is, and a later look gives way."""
    write, saves = Run.write_state, []

    def once(run, content):
        write(run, content)
        saves.append(1)
        if len(saves) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "write_state", once)
        search(SEARCH, options(tmp_path / "a", "search"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    asked = Select(search=str(tmp_path / "a"), recalibrate_batches=1, select_images=16)
    found = select(asked, options(tmp_path / "b", "select"))
    assert (found["unfinished"], found["epoch"]) == (True, 1) and found["scored"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")} == before
    search(SEARCH, options(tmp_path / "a", "search"))
    last = select(asked, options(tmp_path / "b", "select"))
    assert "unfinished" not in last and [r["path"] for r in last["scored"]] == [r["path"] for r in found["scored"]]
