"""The two figures hold the published points."""

import json

from common.cli import RunOptions
from papers.cream.figures import figures, measured_points, published_points
from papers.cream.settings import FiguresSettings


def test_points_come_from_the_claims():
    points = published_points()
    assert (23.0, 59.9) in points["Cream (published)"] and (600.0, 80.0) in points["Cream (published)"]
    assert points["EfficientNet-B0"] == [(390.0, 77.3)] and len(points["MobileNetV3"]) == 7


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
        FiguresSettings(results=str(tmp_path / "results")), RunOptions(out=tmp_path, paper="cream", section="figures")
    )
    for drawn in result["figures"].values():
        assert drawn["points"] >= 8 and (tmp_path / drawn["file"]).stat().st_size > 1000
