"""``python -m reproductions bench FILE``: what pytest-benchmark wrote, as results/benchmarks/<machine>.json and
growth.json.

``make bench`` measures, calls this and writes the tables of docs/speed.md. Nothing here measures.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.run.files import environment, write_json
from reproductions.arguments import OneLineParser
from reproductions.claims import ROOT
from reproductions.speed import growth

FOLDER = ROOT / "results" / "benchmarks"
GROWTH, LARGE = "growth.json", "large_product"


def main(argv: list[str]) -> int:
    parser = OneLineParser(prog="python -m reproductions bench", description=__doc__)
    parser.add_argument("file", type=Path, help="the JSON file of pytest --benchmark-json")
    args = parser.parse_args(argv)
    raw = read(args.file)
    about, written = described(raw), []
    if rows := workloads(raw):
        written.append(FOLDER / f"{machine(about)}.json")
        write_json(written[-1], {**about, "rows": rows})
    if found := growth.of(raw):
        written += [FOLDER / GROWTH, growth.PICTURE]
        write_json(FOLDER / GROWTH, {**about, **found})
        growth.draw(found, growth.PICTURE)
    if not written:
        raise UserError(f"{args.file} holds no benchmarks of tests/benchmarks; was it written with --benchmark-enable?")
    print(f"wrote {', '.join(str(path.relative_to(ROOT)) for path in written)}")
    return 0


def read(file: Path) -> dict[str, Any]:
    """The file's content. Raises UserError."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error}; write it with: make bench") from None
    if not isinstance(found, dict) or not isinstance(found.get("benchmarks"), list):
        raise UserError(f"{file} is not of pytest-benchmark; write it with: make bench")
    return found


def described(raw: dict[str, Any]) -> dict[str, Any]:
    """When and where: the environment as every run records it, without the command."""
    import torch  # noqa: F401  (its version and the GPUs belong to the environment)

    about = environment()
    about.pop("command"), about.pop("platform")
    return {"date": str(raw.get("datetime", ""))[:10], "precision": "fp32", "environment": about | {"threads": 1}}


def machine(about: dict[str, Any]) -> str:
    """A short name of the machine: processor, cores and GPU; no host name."""
    found = about["environment"]
    processor = re.sub(r"\((r|tm)\)|processor|cpu|@.*", " ", found["processor"].lower())
    words = [processor, f"{found['cores']} cores", *dict.fromkeys(found.get("gpus", []))]
    return "-".join(re.findall(r"[a-z0-9.]+", " ".join(words).lower()))


def workloads(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a workload and device: seconds, images a second, peak memory, share of a large matrix product's rate.

    seconds: median of the rounds, of the process on a CPU, of the wall on a GPU. share: floating-point operations a
    second, two a multiply-add, of matrix products and convolutions, over those of one product of two 2048 x 2048
    matrices in the same run; None where torch does not count a workload's operations.
    """
    found = [b for b in raw["benchmarks"] if "workload" in b.get("extra_info", {})]
    rates = {
        b["extra_info"]["device"]: b["extra_info"]["flops"] / b["stats"]["median"]
        for b in found
        if b["extra_info"]["workload"] == LARGE
    }
    return [row(b["extra_info"], b["stats"], rates) for b in found]


def row(extra: dict[str, Any], stats: dict[str, Any], rates: dict[str, float]) -> dict[str, Any]:
    seconds, flops, rate = stats["median"], extra["flops"], rates.get(extra["device"])
    return {
        **{key: extra[key] for key in ("paper", "workload", "about", "device")},
        "seconds": seconds, "rounds": stats["rounds"], "quartiles": [stats["q1"], stats["q3"]],
        "images_per_s": extra["images"] / seconds if extra["images"] else None,
        "peak_mb": extra["peak_bytes"] / 1e6 if "peak_bytes" in extra else None,
        "gflop": flops / 1e9 if flops else None, "operators": extra["operators"],
        "share_of_product": flops / seconds / rate if flops and rate else None,
    }  # fmt: skip
