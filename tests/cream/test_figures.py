"""The two figures hold the published points."""

import json
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from common.cli.verbs import RunOptions
from papers.cream.studies.figures import PANELS, PUBLISHED_POINTS, draw_points, figures, measured_points
from papers.cream.studies.settings import Figures

ROOT = Path(__file__).resolve().parents[2]


def test_points_are_those_of_the_claims():
    """The claims whose id begins with ``cream.figure.`` state errors."""
    series = {}
    for claim in yaml.safe_load((ROOT / "reproductions" / "claims" / "cream.yaml").read_text(encoding="utf-8")):
        parts = claim["id"].split(".")
        if parts[:2] == ["cream", "figure"]:
            name = "Cream (published)" if parts[2] in ("small", "large") else claim["row"].split(" (")[0]
            series.setdefault(name, []).append((int(parts[-1]), round(100 - claim["value"], 3)))
    assert {name: sorted(points) for name, points in series.items()} == PUBLISHED_POINTS


def test_figures_are_drawn_with_what_was_measured(tmp_path):
    folder = tmp_path / "results" / "paper" / "cream" / "evaluate-14"
    folder.mkdir(parents=True)
    path = [[0], [3], [3, 3], [3, 3], [3], [3], [0]]
    content = {
        "architecture": {"path": path},
        "metrics": {"top1_error_percent": 46.2},
        "settings": {"dataset": "imagenet"},
    }
    (folder / "result.json").write_text(json.dumps(content))
    assert [round(v, 1) for v in measured_points(tmp_path / "results")[0]] == [13.8, 53.8]
    result = figures(
        Figures(results=str(tmp_path / "results")), RunOptions(out=tmp_path, paper="cream", section="figures")
    )
    for drawn in result["figures"].values():
        assert drawn["points"] >= 8 and (tmp_path / drawn["file"]).stat().st_size > 1000


@pytest.mark.parametrize("panel", PANELS)
def test_nothing_written_overlaps(panel):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
    draw_points(axes, {**PUBLISHED_POINTS, "reproduced here": [(13.8, 53.8), (287.2, 77.6)]}, PANELS[panel])
    figure.canvas.draw()
    inside = axes.get_window_extent()
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert len(boxes) >= 5
    boxes["the legend"] = axes.get_legend().get_window_extent()
    for name, box in boxes.items():
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1, name
    for (one, a), (two, b) in combinations(boxes.items(), 2):
        assert not a.overlaps(b), (one, two)
    legend = boxes["the legend"]
    for line in axes.lines:
        for point in axes.transData.transform(line.get_xydata()):
            assert not legend.contains(*point), line.get_label()
    pyplot.close(figure)
