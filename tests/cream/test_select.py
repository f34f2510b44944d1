"""Choosing again among the paths of a board."""

from dataclasses import replace

import pytest

from common.errors import UserError
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
