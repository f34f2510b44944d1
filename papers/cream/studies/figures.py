"""Accuracy against multiply-adds, redrawn: the two figures of the paper's repository (small and large models).

Points measured here come from result.json files; the published ones are also claims of the suite.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.run.files import make_folder, write_figure
from papers.cream.claims import published_millions
from papers.cream.networks.architectures import PUBLISHED
from papers.cream.studies.settings import Figures

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

PANELS = {"small": (0, 165, 50, 76), "large": (150, 750, 74, 81)}  # MFLOPs from, to; accuracy from, to
STYLES: dict[str, dict[str, Any]] = {  # the series drawn as lines; the same colours in both figures
    "Cream (published)": {"color": "tab:orange", "linewidth": 2, "marker": "o", "markersize": 7},
    "MobileNetV3": {"color": "tab:blue", "linewidth": 1, "linestyle": "--", "marker": "o", "markersize": 4},
    "reproduced here": {"color": "tab:green", "linestyle": "", "marker": "*", "markersize": 12, "zorder": 3},
}
Point = tuple[float, float]
# Series -> (MFLOPs, top-1 accuracy in percent). Cream's from the text of its repository, the others read off its plots
# (within 0.1 % and 2 MFLOPs); Cream's large networks stand at the counts of the figure.
PUBLISHED_POINTS: dict[str, list[Point]] = {
    "ChamNet": [(54, 62.4)],
    "Cream (published)": [(23, 59.9), (43, 66.3), (72, 69.5), (114, 72.8), (285, 77.6), (470, 79.2), (600, 80.0)],
    "DNA": [(611, 78.4)],
    "EfficientNet-B0": [(390, 77.3)],
    "EfficientNet-B1": [(734, 79.2)],
    "FBNet": [(32, 60.0)],
    "GreedyNAS": [(366, 77.1)],
    "MnasNet": [(78, 67.2)],
    "MobileNetV2": [(71, 63.9)],
    "MobileNetV3": [(21, 58.0), (43, 63.3), (74, 68.5), (112, 71.7), (155, 73.3), (219, 75.2), (356, 76.6)],
    "ProxylessNAS": [(320, 74.6)],
    "SPOS": [(319, 74.3)],
    "ShuffleNetV2": [(41, 61.1)],
}


def measured_points(results: Path) -> list[Point]:
    """(published count in millions, accuracy) of every full-scale ImageNet result of a published network."""
    points = []
    for file in sorted(results.glob("paper/cream/*/result.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        path = (content.get("architecture") or {}).get("path")
        names = [name for name, known in PUBLISHED.items() if known == path]
        error = content.get("metrics", {}).get("top1_error_percent")
        if names and error is not None and content.get("settings", {}).get("dataset") == "imagenet":
            points.append((published_millions(names[0]), 100 - error))
    return points


def draw_points(axes: Any, series: dict[str, list[Point]], limits: tuple[float, float, float, float]) -> int:
    """Draw the points inside ``limits`` (MFLOPs from, to; accuracy from, to); returns how many there were."""
    low, high, bottom, top = limits
    axes.margins(x=0.12, y=0.08)
    count = 0
    for name, points in series.items():
        shown = [(x, y) for x, y in points if low <= x <= high and bottom <= y <= top]
        if not shown:
            continue
        count += len(shown)
        if name in STYLES:
            axes.plot(*zip(*shown), label=name, **STYLES[name])
            continue
        axes.plot(*zip(*shown), "o", color="tab:gray", markersize=4)  # a single network, named where it stands
        inward = shown[-1][0] > low + 0.85 * (high - low)
        axes.annotate(
            name, shown[-1], (-5 if inward else 5, -3), textcoords="offset points", fontsize=7, color="dimgray",
            horizontalalignment="right" if inward else "left",
        )  # fmt: skip
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    return count


def figures(settings: Figures, options: RunOptions) -> dict[str, Any]:
    """Draw both panels into ``--out``; returns the files and the number of points in each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    series = {**PUBLISHED_POINTS, "reproduced here": measured_points(Path(settings.results))}
    folder = options.folder
    make_folder(folder)
    drawn: dict[str, Any] = {}
    for panel, limits in PANELS.items():
        figure, axes = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
        count = draw_points(axes, series, limits)
        axes.set(xlabel="MFLOPs (the papers' counts)", ylabel="ImageNet top-1 accuracy, %", title=f"{panel} models")
        file = folder / f"accuracy_{panel}.{settings.format}"
        write_figure(figure, file, metadata={"Date": None} if settings.format == "svg" else None)
        pyplot.close(figure)
        drawn[panel] = {"file": str(file), "points": count}
    return {"paper": "cream", "stage": "figures", "figures": drawn}
