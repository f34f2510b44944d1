"""``python -m reproductions picture``: docs/picture.svg, a cell that a search found beside its learning curve.

Both come from committed results: the normal cell of ``results/proxy/evnas/search-0`` and the errors of its training in
``results/proxy/evnas/train-0``. The picture has a white ground of its own, so it reads on light and dark pages.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.run.files import write_text
from reproductions.arguments import OneLineParser
from reproductions.claims import ROOT
from reproductions.results import RESULTS, Result, read

SEARCH, TRAINING = "proxy/evnas/search-0", "proxy/evnas/train-0"
WHERE = ROOT / "docs" / "picture.svg"
GAP, MARGIN = 24.0, 12.0  # points
INK, MUTED, GRID, BLUE, ORANGE = "#1f2933", "#52606d", "#e4e7eb", "#1d4e89", "#c2571a"


def main(argv: list[str]) -> int:
    parser = OneLineParser(prog="python -m reproductions picture", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results (default: results)")
    parser.add_argument("--out", type=Path, default=WHERE, help="default: docs/picture.svg")
    args = parser.parse_args(argv)
    if args.out.suffix != ".svg":
        raise UserError(f"{args.out} is no .svg file")
    write_text(args.out, picture(args.results))
    print(args.out)
    return 0


def picture(results: Path = RESULTS) -> str:
    """The picture as SVG text; equal results give equal text."""
    found = results / SEARCH / "architecture.json"
    if not found.exists():
        raise UserError(f"{found} is missing; git checkout {found}")
    with tempfile.TemporaryDirectory() as folder:
        files = [cell(found, Path(folder)), curve(read(results / TRAINING / "result.json"), Path(folder))]
        parts = [file.read_text(encoding="utf-8") for file in files]
    sizes = [tuple(float(n) for n in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', part).groups()) for part in parts]  # type: ignore[union-attr]
    width = sum(w for w, _ in sizes) + GAP + 2 * MARGIN
    height = max(h for _, h in sizes) + 2 * MARGIN
    placed, x = [], MARGIN
    for part, (w, h) in zip(parts, sizes, strict=True):
        place = f'x="{x:g}" y="{(height - h) / 2:g}" width="{w:g}" height="{h:g}" viewBox="0 0 {w:g} {h:g}"'
        opening = f'<svg {place} xmlns:xlink="http://www.w3.org/1999/xlink">'
        inner = re.sub(r"<svg[^>]*>", opening, part[part.index("<svg") :], count=1)
        placed.append(re.sub(r"<metadata>.*?</metadata>", "", inner, flags=re.S))
        x += w + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}pt" role="img">\n'
        "<title>A cell that EvNAS found on CIFAR-10 at reduced scale, and the errors of its training</title>\n"
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="white"/>\n' + "\n".join(placed) + "\n</svg>\n"
    )


def cell(path: Path, folder: Path) -> Path:
    """The normal cell of an architecture file, drawn as ``draw`` draws it."""
    from common.spaces.cells import cells_of
    from common.spaces.drawing import draw_graph
    from papers.evnas.networks.architectures import load_genotype

    file = folder / "cell.svg"
    graph = cells_of(str(path), load_genotype)["normal"]
    draw_graph(graph, file)
    return file


def curve(training: Result, folder: Path) -> Path:
    """Training and test error of every epoch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = training.history()
    file = folder / "curve.svg"
    style: Any = {
        "font.size": 8, "svg.hashsalt": "curve", "axes.spines.top": False, "axes.spines.right": False,
        "axes.edgecolor": MUTED, "text.color": INK, "axes.labelcolor": INK, "xtick.color": MUTED,
        "ytick.color": MUTED,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(3.6, 2.6), layout="constrained", facecolor="white")
        for column, name, colour, dash in (
            ("train_top1_error_percent", "training images", BLUE, "--"),
            ("test_top1_error_percent", "test images", ORANGE, "-"),
        ):
            points = [
                (float(row["epoch"]) + 1, float(row[column]))
                for row in rows
                if row.get(column) not in ("", "nan", None)
            ]
            if points:
                axes.plot(*zip(*points, strict=True), dash, marker=".", lw=1.6, color=colour, label=name)
        axes.grid(color=GRID)
        axes.set(xlabel="epochs of 10,000 CIFAR-10 images", ylabel="top-1 error, percent", ylim=(0, None))
        axes.set_title("trained from scratch: the cell at 8 channels, 8 cells", fontsize=9)
        axes.legend(frameon=False)
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return file
