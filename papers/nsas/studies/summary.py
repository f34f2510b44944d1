"""Tables, figures, sentences of the experiment "does the constraint matter?": of one run and of a folder of runs."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import scipy

from common.errors import UserError
from common.run import files as records

MEASURES = {
    "forgetting_points": "forgetting (points)",
    "tau": "Kendall's tau",
    "chosen_test_accuracy_percent": "chosen cell (%, table)",
    "mean_supernet_accuracy_percent": "mean of ranked cells (%, supernet)",
    "chosen_supernet_accuracy_percent": "chosen cell (%, supernet)",
}
FORM = ("loss", "constraints", "seed")
COLUMNS = (*FORM, *MEASURES)
COSTS = (*FORM, "cpu_seconds", "wall_seconds")  # kept apart: durations are no results and differ from run to run
CONTRAST = ("measure", "contrast", "seeds", "mean", "low", "high")
CONFIDENCE = 0.95


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
    _save(figure, path, plt)


def sentence_of_run(loss: str, constraints: int, metrics: dict[str, float]) -> str:
    """What came out of one run."""
    text = (
        f"{label(loss, constraints)}: an earlier architecture lost {metrics['forgetting_points']:.2f} points on average"
    )
    text += f" between two probes; the chosen cell has {metrics['chosen_supernet_accuracy_percent']:.2f} % with shared"
    text += " weights"
    if "chosen_test_accuracy_percent" in metrics:
        tau = f"{metrics['tau']:.3f}" if "tau" in metrics else "undefined (all scores alike)"
        text += f" and {metrics['chosen_test_accuracy_percent']:.2f} % trained alone (table); tau is {tau}"
    return text + ".\n"


def collect(folder: Path) -> list[dict[str, Any]]:
    """One row a finished run below ``folder``, with its settings. Raises UserError when there is none, or when runs of
    different scales lie together.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("result.json")):
        found = records.read_json(path)
        settings = found.get("settings", {})
        if found.get("paper") != "nsas" or found.get("stage") != "experiments" or settings.get("summarise"):
            continue
        if settings["loss"] == "both":  # its two runs lie in folders of their own
            continue
        row = {"loss": settings["loss"], "constraints": settings["constraints"], "seed": found["seed"]}
        row |= {key: found["metrics"].get(key, "") for key in MEASURES}
        row["settings"] = {k: v for k, v in settings.items() if k not in ("loss", "constraints")}
        if rows and row["settings"] != rows[0]["settings"]:
            raise UserError(f"{path.parent} has other settings than the runs beside it; put each scale into a folder")
        rows.append({**row, "cpu_seconds": _cpu_seconds(path), "wall_seconds": _wall_seconds(path)})
    if not rows:
        raise UserError(f"{folder}: no finished experiments below it; run some first, with --out {folder}/NAME")
    return rows


def _cpu_seconds(result: Path) -> float | str:
    path = result.with_name("cost.csv")
    if not path.exists():
        return ""
    with path.open(newline="") as lines:
        return float(next(csv.DictReader(lines))["process_seconds"])


def _wall_seconds(result: Path) -> float | str:
    path = result.with_name("timing.json")
    return records.read_json(path)["seconds"] if path.exists() else ""


def as_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Some columns of the rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def grouped(rows: Sequence[dict[str, Any]], key: str) -> dict[str, dict[int, float]]:
    """Form of the loss -> seed -> value; RandomNAS first."""
    groups: dict[str, dict[int, float]] = defaultdict(dict)
    for row in sorted(rows, key=lambda r: (r["constraints"] > 0, r["loss"], r["constraints"], r["seed"])):
        if row[key] != "":
            groups[label(row["loss"], row["constraints"])][row["seed"]] = float(row[key])
    return dict(groups)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean (Student's t); NaN for fewer than two values."""
    if len(values) < 2:
        return nan, nan
    half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return mean(values) - half, mean(values) + half


def contrasts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Paired differences over the seeds that both forms have: every form minus RandomNAS, and the paper's loss minus
    the authors' at the same M (there only the gradient through the constraints differs).
    """
    found = []
    for key in MEASURES:
        groups = grouped(rows, key)
        pairs = [(form, "RandomNAS") for form in groups if form != "RandomNAS" and "RandomNAS" in groups]
        pairs += [(f, f.replace("paper", "authors")) for f in groups if f.startswith("paper")]
        for one, other in pairs:
            shared = sorted(set(groups[one]) & set(groups.get(other, {})))
            if not shared:
                continue
            gaps = [groups[one][seed] - groups[other][seed] for seed in shared]
            low, high = interval(gaps)
            found.append({"measure": key, "contrast": f"{one} minus {other}", "seeds": len(gaps), "mean": mean(gaps),
                          "low": low, "high": high})  # fmt: skip
    return found


def identical(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether the authors' loss gave the same supernet for every M: each measure equal, seed by seed."""
    by_seed: dict[int, list[tuple]] = defaultdict(list)
    for row in rows:
        if row["loss"] == "authors" and row["constraints"]:
            by_seed[row["seed"]].append(tuple(row[key] for key in MEASURES))
    repeated = [values for values in by_seed.values() if len(values) > 1]
    return bool(repeated) and all(len(set(values)) == 1 for values in repeated)


def paragraph(rows: Sequence[dict[str, Any]]) -> str:
    """Scale, means with 95 % intervals of every measure, and the paired contrasts with their intervals."""
    lines = [_scale(rows)]
    gaps = contrasts(rows)
    for key, name in MEASURES.items():
        groups = grouped(rows, key)
        if not groups:
            continue
        parts = []
        for form, values in groups.items():
            low, high = interval(list(values.values()))
            spread = "" if isnan(low) else f" [{low:.3f}, {high:.3f}]"
            parts.append(f"{form} {mean(values.values()):.3f}{spread} (n = {len(values)})")
        line = f"{name[0].upper()}{name[1:]}: {'; '.join(parts)}."
        mine = [g for g in gaps if g["measure"] == key and g["seeds"] > 1]
        apart = [g for g in mine if not g["low"] <= 0 <= g["high"]]
        said = [f"{g['contrast']} {g['mean']:+.3f} [{g['low']:+.3f}, {g['high']:+.3f}]" for g in apart]
        if mine:
            line += f" Differences, paired by seed, whose 95 % interval excludes zero: {'; '.join(said) or 'none'}"
            line += f" ({len(apart)} of {len(mine)} contrasts)."
        lines.append(line)
    if identical(rows):
        lines.append(
            "With the authors' loss every M gave the same supernet, seed by seed: constraints are numbers there."
        )
    if any(g["seeds"] > 1 for g in gaps):
        lines.append(f"The intervals are not corrected for the number of contrasts ({len(gaps)} in all).")
    return "\n".join(lines) + "\n"


def _scale(rows: Sequence[dict[str, Any]]) -> str:
    given = rows[0]["settings"]
    names = ("dataset", "train_images", "channels", "cells", "epochs", "batch_size", "rank_cells", "rank_images")
    listed = ", ".join(f"{name} {given[name]}" for name in names if name in given)
    seeds = len({row["seed"] for row in rows})
    return f"{len(rows)} runs, {seeds} seeds; scale: {listed or 'not recorded'} (half of the images train)."


def figure(paths: Sequence[Path], rows: Sequence[dict[str, Any]]) -> None:
    """Every measure by form of the loss: a dot a seed, the mean with its 95 % interval."""
    plt = _pyplot()
    shown = {key: grouped(rows, key) for key in MEASURES if grouped(rows, key)}
    panels, axes = plt.subplots(1, len(shown), figsize=(3.2 * len(shown), 3.8), layout="constrained", squeeze=False)
    for axis, (key, groups) in zip(axes[0], shown.items()):
        for place, values in enumerate(list(v.values()) for v in groups.values()):
            spread = [0.12 * (i / max(1, len(values) - 1) - 0.5) - 0.18 for i in range(len(values))]
            axis.plot([place + s for s in spread], values, "o", markersize=3.5, alpha=0.6, color="C0")
            low, high = interval(values)
            half = 0 if isnan(low) else (high - low) / 2
            axis.errorbar(place + 0.12, mean(values), half, fmt="_", color="black", capsize=3, markersize=10)
        axis.set_xticks(range(len(groups)), list(groups), rotation=60, ha="right")
        axis.set_title(MEASURES[key], fontsize=10)
        axis.margins(x=0.08)
    for path in paths:
        _save(panels, path, plt, close=path == paths[-1])


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "nsas"  # equal runs give equal files
    import matplotlib.pyplot as plt

    return plt


def _save(figure, path: Path, plt, close: bool = True) -> None:
    records.write_figure(figure, path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    if close:
        plt.close(figure)
