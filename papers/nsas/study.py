"""Tables, figures, sentences of the experiment "does the constraint matter?": of one run and of a folder of runs."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from common import records
from common.errors import UserError

COLUMNS = ("loss", "constraints", "seed", "forgetting_points", "tau", "chosen_test_accuracy_percent",
           "chosen_supernet_accuracy_percent", "seconds")  # fmt: skip
MEASURES = {
    "forgetting_points": "forgetting (points)",
    "tau": "Kendall's tau",
    "chosen_test_accuracy_percent": "chosen cell (%, table)",
    "chosen_supernet_accuracy_percent": "chosen cell (%, supernet)",
}


def label(loss: str, constraints: int) -> str:
    """Name of a form of the loss."""
    return "RandomNAS" if not constraints else f"{loss}, M = {constraints}"


def figure_of_run(path: Path, title: str, drops: Sequence[tuple[int, float]], scores, truth) -> None:
    """Forgetting over the steps, and supernet accuracy of each ranked cell (against the table's where there is one)."""
    plt = _pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.axhline(0, color="grey", linewidth=0.6)
    left.plot([s for s, _ in drops], [d for _, d in drops], ".", markersize=4)
    left.set(xlabel="step", ylabel="lost by an earlier architecture (points)", title=title)
    if truth is None:
        right.hist(scores, bins=20)
        right.set(xlabel="supernet accuracy (%)", ylabel="cells")
    else:
        right.plot(truth, scores, ".", markersize=4)
        right.set(xlabel="accuracy trained alone (%, table)", ylabel="supernet accuracy (%)")
    _save(figure, path)


def sentence_of_run(loss: str, constraints: int, metrics: dict[str, float]) -> str:
    """What came out of one run."""
    text = (
        f"{label(loss, constraints)}: an earlier architecture lost {metrics['forgetting_points']:.2f} points on average"
    )
    text += f" between two probes; the chosen cell has {metrics['chosen_supernet_accuracy_percent']:.2f} % with shared"
    text += " weights"
    if "tau" in metrics:
        text += (
            f" and {metrics['chosen_test_accuracy_percent']:.2f} % trained alone (table); tau is {metrics['tau']:.3f}"
        )
    return text + ".\n"


def collect(folder: Path) -> list[dict[str, Any]]:
    """One row a finished run below ``folder``. Raises UserError when there is none."""
    rows = []
    for path in sorted(folder.rglob("result.json")):
        found = records.read_json(path)
        settings = found.get("settings", {})
        if found.get("paper") != "nsas" or found.get("stage") != "experiments" or settings.get("summarise"):
            continue
        timing = path.with_name("timing.json")
        row = {"loss": settings["loss"], "constraints": settings["constraints"], "seed": found["seed"]}
        row |= {key: found["metrics"].get(key, "") for key in MEASURES}
        rows.append({**row, "seconds": records.read_json(timing)["seconds"] if timing.exists() else ""})
    if not rows:
        raise UserError(f"{folder}: no finished experiments below it; run some first, with --out {folder}/NAME")
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def grouped(rows: Sequence[dict[str, Any]], key: str) -> dict[str, list[float]]:
    """Form of the loss -> values over seeds; RandomNAS first."""
    groups: dict[str, list[float]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: (r["constraints"] > 0, r["loss"], r["constraints"])):
        if row[key] != "":
            groups[label(row["loss"], row["constraints"])].append(float(row[key]))
    return dict(groups)


def paragraph(rows: Sequence[dict[str, Any]]) -> str:
    """Means and standard deviations of every measure, and how each form differs from RandomNAS."""
    lines = []
    for key, name in MEASURES.items():
        groups = grouped(rows, key)
        if not groups:
            continue
        parts = [f"{g} {mean(v):.3f} ± {stdev(v) if len(v) > 1 else 0:.3f} (n = {len(v)})" for g, v in groups.items()]
        line = f"{name[0].upper()}{name[1:]}: {'; '.join(parts)}."
        base = groups.get("RandomNAS")
        for group, values in groups.items():
            if base and group != "RandomNAS" and len(base) > 1 and len(values) > 1:
                spread = (stdev(base) ** 2 / len(base) + stdev(values) ** 2 / len(values)) ** 0.5
                gap = mean(values) - mean(base)
                verdict = "differs" if spread and abs(gap) > 2 * spread else "does not differ"
                line += f" {group} {verdict} from RandomNAS by more than two standard errors ({gap:+.3f})."
        lines.append(line)
    return "\n".join(lines) + "\n"


def figure(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Every measure by form of the loss: a dot a seed, a bar at the mean."""
    plt = _pyplot()
    shown = {key: grouped(rows, key) for key in MEASURES if grouped(rows, key)}
    panels, axes = plt.subplots(1, len(shown), figsize=(3.6 * len(shown), 3.6), layout="constrained", squeeze=False)
    for axis, (key, groups) in zip(axes[0], shown.items()):
        for place, values in enumerate(groups.values()):
            axis.plot([place] * len(values), values, "o", markersize=4, alpha=0.6, color="C0")
            axis.hlines(mean(values), place - 0.3, place + 0.3, color="black")
        axis.set_xticks(range(len(groups)), list(groups), rotation=45, ha="right")
        axis.set_title(MEASURES[key])
    _save(panels, path)


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "nsas"  # equal runs give equal files
    import matplotlib.pyplot as plt

    return plt


def _save(figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    _pyplot().close(figure)
