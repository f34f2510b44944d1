"""The generated parts of docs/speed.md, from results/benchmarks and the originals' figures."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from common.papers import PAPERS
from reproductions.claims import ROOT
from reproductions.speed import needs
from reproductions.speed.bench import FOLDER, GROWTH
from reproductions.speed.growth import exponent

PAGE = Path("docs") / "speed.md"
NOT_RUN = "not run: `make bench` writes this table"
Row = dict[str, Any]


def pages() -> dict[Path, str]:
    """The page with its tables as they should be. Raises UserError where a marker is absent."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for name, make in (("benchmarks", benchmarks), ("growth", growth_table), ("needs", needs_table)):
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise UserError(f"{PAGE} lacks the markers {start} and {end}")
        text = f"{before}{start}\n{make()}\n{end}{after}"
    return {PAGE: text}


@functools.cache
def originals() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parent / "originals.yaml").read_text(encoding="utf-8"))


def benchmarks(folder: Path = FOLDER) -> str:
    """A table for each machine that was measured."""
    files = sorted(path for path in folder.glob("*.json") if path.name != GROWTH)
    return "\n\n".join(of_machine(json.loads(path.read_text(encoding="utf-8"))) for path in files) or NOT_RUN


def of_machine(found: dict[str, Any]) -> str:
    about, rows = found["environment"], found["rows"]
    gpus = ", ".join(about.get("gpus", []))
    parts = [f"**{about['processor']}, {about['cores']} cores{', ' + gpus if gpus else ''}**, {found['date']}, PyTorch "
             f"{about['packages']['torch']}, {found['precision']}, one thread."]  # fmt: skip
    for device, what in (("cpu", "One CPU thread"), ("cuda", "GPU")):
        mine = {(row["paper"], row["workload"]): row for row in rows if row["device"] == device}
        product = mine.get(("kernels", "large_product"))
        if product is None:
            parts.append(f"{what}: not run.")
            continue
        rate = product["gflop"] / product["seconds"]
        parts.append(f"{what}: {rate:,.0f} GFLOP/s in a product of two 2048 x 2048 matrices.{calibrated(mine, device)}")
        parts.append(table(mine, device))
    return "\n\n".join(parts)


def calibrated(mine: dict[tuple[str, str], Row], device: str) -> str:
    """How this machine compares with the one of the originals' figures."""
    ratios = [
        mine["kernels", name]["seconds"] / theirs["cpu_s"]
        for name, theirs in originals()["kernels"].items()
        if ("kernels", name) in mine
    ]
    if device != "cpu" or not ratios:
        return ""
    mean = 1.0
    for ratio in ratios:
        mean *= ratio ** (1 / len(ratios))
    return f" The calibration kernels take {mean:.2f} times what they took beside EvNAS's original."


def table(mine: dict[tuple[str, str], Row], device: str) -> str:
    head = ["workload", "s", "images/s", "peak MB", "of a product"]
    beside = ["original s", "original / here", "in turns", "original peak MB", "memory here / original"]
    rows = []
    for paper in PAPERS:
        for (whose, name), row in mine.items():
            if whose == paper:
                theirs = originals()[paper].get(name, {}) if device == "cpu" else {}
                rows.append([f"{paper}: {row['about'].partition(' Original')[0]}", *cells(row), *compared(row, theirs)])
    return markdown(head + (beside if device == "cpu" else []), [r if device == "cpu" else r[:5] for r in rows])


def cells(row: Row) -> list[str]:
    images, share = row["images_per_s"], row["share_of_product"]
    return [
        f"{row['seconds']:.3g}", f"{images:,.3g}" if images and images < 1000 else f"{images:,.0f}" if images else "–",
        f"{row['peak_mb']:,.0f}", f"{100 * share:.0f} %" if share else "–",
    ]  # fmt: skip


def compared(row: Row, theirs: dict[str, Any]) -> list[str]:
    """The original's figures beside a row; a pair is a range, and its middle is what ratios are of."""
    seconds, memory, turns = (theirs.get(key) for key in ("cpu_s", "peak_mb", "alternating"))
    return [
        said(seconds), f"{middle(seconds) / row['seconds']:.2g}" if seconds else "–", said(turns), said(memory),
        f"{row['peak_mb'] / middle(memory):.2f}" if memory else "–",
    ]  # fmt: skip


def said(value: Any) -> str:
    if value is None:
        return "–"
    return " to ".join(f"{v:g}" for v in value) if isinstance(value, list) else f"{value:g}"


def middle(value: Any) -> float:
    return sum(value) / len(value) if isinstance(value, list) else float(value)


def growth_file(folder: Path = FOLDER) -> dict[str, Any]:
    path = folder / GROWTH
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def growth_table() -> str:
    """Milliseconds at every size, and how fast they grow at the end."""
    found = growth_file()
    if not found.get("curves"):
        return NOT_RUN
    about, rows = found["environment"], []
    for curve in found["curves"].values():
        points = ", ".join(f"{n}: {1000 * s:.3g}" for n, s in zip(curve["sizes"], curve["seconds"]))
        power = exponent(curve["sizes"], curve["seconds"])
        rows.append([f"{curve['paper']}: {curve['step']}", curve["axis"], points, f"{power:.2f}"])
    parts = [f"{about['processor']}, {found['date']}, one thread.", "![Milliseconds by size](growth.svg)",
             markdown(["what", "against", "ms of each size", "exponent at the end"], rows, 3)]  # fmt: skip
    if found["processes"]:
        steps = found["processes"][0]["steps"]
        head = ["processes", "cores", *(f"{paper}, s" for paper in steps)]
        rows = [[str(p["processes"]), str(p["cores"]), *(f"{s:.3g}" for s in p["steps"].values())]
                for p in found["processes"]]  # fmt: skip
        parts.append(markdown(head, rows, 0))
    return "\n\n".join(parts)


def needs_table() -> str:
    found = growth_file()
    published = found.get("published", {})
    if not all(p.name in published.get(p.search, {}) for phases in needs.SEARCHES.values() for p in phases()):
        return NOT_RUN
    head = ["search", "phase", "steps", "images a step", "TFLOP a step", "operators a step", "hours on one H100",
            "hours on eight", "what decides"]  # fmt: skip
    return f"o = {1e6 * needs.overhead(published):.3g} µs an operator.\n\n" + markdown(head, needs.rows(published), 2)


def markdown(head: list[str], rows: list[list[str]], left: int = 1) -> str:
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))
