"""How costs grow: the curves of results/benchmarks/growth.json, drawn as docs/growth.svg."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from reproductions.claims import ROOT

PICTURE = ROOT / "docs" / "growth.svg"
BLUE, INK, GRID = "#2a6fb0", "#222222", "#dddddd"


def of(raw: dict[str, Any]) -> dict[str, Any]:
    """{curves, processes, published}: points of each curve, steps in several processes, counts of published steps."""
    curves: dict[str, dict[str, Any]] = {}
    processes: list[dict[str, Any]] = []
    published: dict[str, dict[str, Any]] = {}
    for b in raw["benchmarks"]:
        extra, seconds = b.get("extra_info", {}), b["stats"]["median"]
        if "curve" in extra:
            about = {key: extra[key] for key in ("paper", "axis", "step")}
            curve = curves.setdefault(extra["curve"], {**about, "sizes": [], "seconds": []})
            curve["sizes"].append(extra["size"])
            curve["seconds"].append(seconds)
        elif "processes" in extra:
            processes.append({key: extra[key] for key in ("processes", "cores", "steps")})
        elif "phase" in extra:
            counted = {key: extra[key] for key in ("flops_an_image", "flops_besides", "operators")}
            published.setdefault(extra["search"], {})[extra["phase"]] = counted
    if not (curves or processes or published):
        return {}
    return {"curves": curves, "processes": processes, "published": published}


def exponent(sizes: list[float], seconds: list[float]) -> float:
    """How fast the cost grows at the end: slope of log seconds over log size between the two largest sizes."""
    (a, b), (s, t) = sizes[-2:], seconds[-2:]
    return math.log(t / s) / math.log(b / a)


def draw(found: dict[str, Any], file: Path) -> None:
    """One small picture a curve, milliseconds against size from 0 on, and one for processes."""
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("Agg")
    curves = list(found["curves"].values())
    columns = 3
    rows = math.ceil((len(curves) + 1) / columns)
    style: Any = {"font.size": 8, "svg.hashsalt": "growth", "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):
        figure, grid = pyplot.subplots(rows, columns, figsize=(9, 2.3 * rows), layout="constrained", facecolor="white")
        panels = grid.flat
        for curve, axes in zip(curves, panels):
            axes.plot(curve["sizes"], [1000 * s for s in curve["seconds"]], "-o", ms=3, lw=1.5, color=BLUE)
            axes.set(xlabel=curve["axis"], ylabel="ms", xlim=(0, None), ylim=(0, None))
            axes.set_title(f"{curve['paper']}: {curve['step']}", fontsize=8)
            axes.grid(color=GRID)
        _processes(found["processes"], panels[len(curves)])
        for axes in panels[len(curves) + 1 :]:
            axes.axis("off")
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def _processes(found: list[dict[str, Any]], axes: Any) -> None:
    if not found:
        axes.axis("off")
        return
    counts = [point["processes"] for point in found]
    for paper, dash in zip(found[0]["steps"], ("-o", "--s", ":^")):
        axes.plot(counts, [point["steps"][paper] for point in found], dash, ms=3, lw=1.5, color=INK, label=paper)
    axes.set(xlabel=f"processes on {found[0]['cores']} cores", ylabel="s", xticks=counts, ylim=(0, None))
    axes.set_title("a step that processes share", fontsize=8)
    axes.legend(frameon=False)
    axes.grid(color=GRID)
