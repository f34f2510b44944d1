"""Accuracy against multiply-adds, redrawn: the two figures of the paper's repository (small and large models).

Published and comparison points come from the claims file; points measured here come from result.json files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from common.settings import ROOT
from papers.cream.architectures import PUBLISHED
from papers.cream.describe import published_millions
from papers.cream.settings import FiguresSettings

CLAIMS = ROOT / "reproductions" / "claims" / "cream.yaml"
PANELS = {"small": (0, 165, 50, 76), "large": (150, 750, 74, 81)}  # MFLOPs from, to; accuracy from, to
Point = tuple[float, float]


def published_points(claims: Path = CLAIMS) -> dict[str, list[Point]]:
    """Series -> (MFLOPs, top-1 accuracy in percent), from the claims whose id starts with ``cream.figure.``."""
    series: dict[str, list[Point]] = {}
    for claim in yaml.safe_load(claims.read_text(encoding="utf-8")):
        parts = claim["id"].split(".")
        if parts[:2] != ["cream", "figure"]:
            continue
        accuracy = round(100 - claim["value"], 3)
        name = "Cream (published)" if parts[2] in ("small", "large") else claim["row"].split(" (")[0]
        series.setdefault(name, []).append((float(parts[-1]), accuracy))
    return {name: sorted(points) for name, points in sorted(series.items())}


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


def figures(settings: FiguresSettings, options: Any) -> dict[str, Any]:
    """Draw both panels into ``--out``; returns the files and the number of points in each. Raises UserError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    if not CLAIMS.exists():
        raise UserError(f"{CLAIMS} is missing; the figures are drawn from the claims")
    published, measured = published_points(), measured_points(Path(settings.results))
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, Any] = {}
    for panel, (low, high, bottom, top) in PANELS.items():
        figure, axes = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
        count = 0
        for name, points in {**published, "reproduced here": measured}.items():
            shown = [(x, y) for x, y in points if low <= x <= high and bottom <= y <= top]
            if not shown:
                continue
            count += len(shown)
            ours = name in ("Cream (published)", "reproduced here")
            style = {"marker": "*" if name == "reproduced here" else "o", "linestyle": "-" if ours else "--"}
            axes.plot(*zip(*shown), label=name, linewidth=2 if ours else 1, markersize=7 if ours else 4, **style)
        axes.set(xlabel="MFLOPs (the papers' counts)", ylabel="ImageNet top-1 accuracy, %", title=f"{panel} models")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
        file = folder / f"accuracy_{panel}.{settings.format}"
        figure.savefig(file, metadata={"Date": None} if settings.format == "svg" else None)
        pyplot.close(figure)
        drawn[panel] = {"file": str(file), "points": count}
    return {"paper": "cream", "stage": "figures", "figures": drawn}
