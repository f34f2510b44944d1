"""Curves and pictures: what the pipelines' plots name exists and is a curve; the page needs no network."""

from __future__ import annotations

import csv
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from common.errors import UserError
from reproductions.claims import ROOT
from reproductions.docs import picture, plots
from reproductions.results import read

PROXY = yaml.safe_load((ROOT / "reproductions" / "proxy" / "dvc.yaml").read_text())
SMOKE = yaml.safe_load((ROOT / "dvc.yaml").read_text())


def curves(pipeline) -> list[tuple[str, str, str, list[str]]]:
    """(title, x, file, columns) of every curve."""
    found = []
    for plot in pipeline["plots"]:
        ((title, about),) = plot.items()
        for file, columns in about["y"].items():
            found.append((title, about["x"], file, [columns] if isinstance(columns, str) else columns))
    return found


@pytest.mark.parametrize(("title", "x", "file", "columns"), curves(PROXY))
def test_every_curve_of_the_proxy_runs_has_points(title, x, file, columns):
    path = (ROOT / "reproductions" / "proxy" / file).resolve()
    rows = list(csv.DictReader(path.open(newline="", encoding="utf-8")))
    for column in columns:
        points = [(float(r[x]), float(r[column])) for r in rows if r[column] not in ("", "nan")]
        assert len(points) > 1, f"{title}: {column} of {file} is no curve"


def test_both_pipelines_show_the_same_curves_under_names_of_their_own():
    smoke, proxy = curves(SMOKE), curves(PROXY)
    assert [t + " (proxy)" for t, *_ in smoke] == [t for t, *_ in proxy]
    assert len({t for t, *_ in smoke}) == len(smoke)
    outs = {
        out if isinstance(out, str) else next(iter(out)) for s in SMOKE["stages"].values() for out in s.get("outs", [])
    }
    names = {re.sub(r"\$\{item\.\w+\}", "*", out) for out in outs}
    for title, _, file, _ in smoke:
        assert any(Path(file).match(name) for name in names), f"{title}: no stage writes {file}"


def test_the_page_asks_the_network_only_where_the_library_is_not_beside_it():
    page = (ROOT / ".dvc" / "plots.html").read_text(encoding="utf-8")
    assert "{plot_divs}" in page and "{scripts}" not in page
    first, second = re.findall(r"<script[^>]*>(?:.|\n)*?</script>", page)[:2]
    assert first == f'<script src="{plots.BUNDLE}"></script>' and second.index("!window.vegaEmbed") < second.index(
        "https"
    )
    assert "html_template = plots.html" in (ROOT / ".dvc" / "config").read_text()


def test_a_missing_package_is_one_line_that_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "\.\[plots\]"'):
        plots.bundle(tmp_path / plots.BUNDLE)
    (tmp_path / plots.BUNDLE).write_text("here")
    plots.bundle(tmp_path / plots.BUNDLE)  # what lies there is taken


def test_the_picture_has_the_cell_and_its_curve_and_is_the_same_twice(tmp_path):
    first = picture.picture()
    assert first == picture.picture()
    assert first.count("<svg") == 3 and "http://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", first)
    shown = read(ROOT / "results" / picture.TRAINING / "result.json").history()
    assert len(shown) > 5
    with pytest.raises(UserError, match=r"architecture\.json is missing"):
        picture.picture(tmp_path)
