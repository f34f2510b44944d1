"""The claim "4N times faster for N constraints", as a measurement on this device.

The generator is trained once, whatever N; a search per constraint is repeated N times. Both use the same trained
supernet, whose training is not counted, as in the paper (six normalisations or one: folded, the work is the same, and
the look-up counts none). Steps and scored candidates are timed here; their numbers are settings, unless the folders of
finished runs are given, whose measured times then count.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from common.errors import UserError
from common.run.device import pick_device
from common.run.distributed import one_process
from common.run.files import read_json, write_figure, write_json
from common.run.folder import say
from papers.sgnas.method.generator import Generator, gumbel_noise, gumbel_softmax
from papers.sgnas.method.generator_training import accuracy_loss, build_optimizer, generate_ops
from papers.sgnas.method.lookup import cost_range, hardware_loss, macs_table, one_hot
from papers.sgnas.method.prior import PriorPool, random_candidate
from papers.sgnas.networks.architectures import OPS, SUB_BLOCKS, macro_for
from papers.sgnas.networks.fixed_supernet import FixedSupernet
from papers.sgnas.networks.supernet import Supernet
from papers.sgnas.studies.latency import seconds_of
from papers.sgnas.studies.settings import Cost

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def seconds_per_step(supernet: Supernet, batch: int, device: torch.device, repeats: int) -> tuple[float, float]:
    """Wall seconds of (one generator step, one generation of an architecture)."""
    fixed, macro = FixedSupernet(supernet.eval()), supernet.macro
    lookup, layers = macs_table(macro).to(device), len(macro.layers)
    low, high = cost_range(lookup)
    middle = (low + high) / 2
    prior = one_hot(torch.zeros(layers, SUB_BLOCKS, dtype=torch.long)).view(layers, SUB_BLOCKS * OPS)
    pool = PriorPool({middle: prior}, low, high, "")
    generator = Generator().to(device)
    adam = build_optimizer(generator)
    x = torch.randn(batch, 3, macro.input_size, macro.input_size, device=device)
    y = torch.zeros(batch, dtype=torch.long, device=device)

    def step(noise: torch.Tensor) -> None:
        p = gumbel_softmax(generator(*pool.inputs([middle], device)), 5.0, noise)
        loss = hardware_loss(lookup.cost(p), middle).mean() + accuracy_loss(fixed, x, y, p, 0.1, "random")
        adam.zero_grad()
        loss.backward()
        adam.step()

    shape, times = (1, layers, SUB_BLOCKS, OPS), []
    for number in range(repeats + 1):
        noise = gumbel_noise(shape, torch.Generator().manual_seed(number)).to(device)
        times.append(seconds_of(partial(step, noise), device))
    generation = seconds_of(lambda: generate_ops(generator, pool, [middle], device), device)
    return float(np.median(times[1:])), generation


@torch.no_grad()
def seconds_per_candidate(
    fixed: FixedSupernet, batch: int, size: int, device: torch.device, rng: np.random.RandomState
) -> float:
    """Wall seconds of one batch of one random candidate (median of three)."""
    x = torch.randn(batch, 3, size, size, device=device)
    candidates = [random_candidate(rng, len(fixed.blocks)) for _ in range(4)]
    times = [seconds_of(partial(fixed.path, x, ops), device) for ops in candidates]
    return sorted(times[1:])[1]


def generator_seconds(folder: Path) -> float:
    """Measured time of a generator phase that was run alone. Raises UserError for any other folder."""
    result, timing = read_json(folder / "result.json"), read_json(folder / "timing.json")
    if result.get("paper") != "sgnas" or result.get("phases") != ["generator"]:
        raise UserError(f"{folder} is no run of search-generator, whose time is wanted here without the supernet's")
    return float(timing["seconds"])


def evolution_seconds(folder: Path) -> float:
    """Measured time per constraint of an ``evolve`` run. Raises UserError for any other folder."""
    result, timing = read_json(folder / "result.json"), read_json(folder / "timing.json")
    if result.get("paper") != "sgnas" or result.get("stage") != "evolve":
        raise UserError(f"{folder} is no run of evolve, whose time per constraint is wanted here")
    return float(timing["seconds"]) / len(result["architectures"])


def speedup(settings: Cost, options: RunOptions) -> dict[str, Any]:
    """The ``cost`` verb: hours for each N, a plot, and the ratio. Raises UserError."""
    c = settings
    one_process("cost")
    c.check(options.given)
    device, macro = pick_device(options), macro_for(c.macro)
    supernet = Supernet(macro, 100).to(device)
    step, generation = seconds_per_step(supernet, c.batch_size, device, c.repeats)
    scored = seconds_per_candidate(
        FixedSupernet(supernet.eval()), c.batch_size, macro.input_size, device, np.random.RandomState(0)
    )
    once = c.generator_steps * step
    if c.search:
        once = generator_seconds(Path(c.search))
    each = evolution_seconds(Path(c.evolved)) if c.evolved else c.candidates * c.candidate_batches * scored
    rows = [
        {"constraints": n, "generator_seconds": once + n * generation, "evolution_seconds": n * each}
        for n in sorted(c.counts)
    ]
    for row in rows:
        row["ratio"] = row["evolution_seconds"] / row["generator_seconds"]
        say(
            f"N = {row['constraints']:3}: generator {row['generator_seconds'] / 3600:8.3f} h, a search per constraint "
            f"{row['evolution_seconds'] / 3600:8.3f} h, ratio {row['ratio']:.2f}"
        )
    folder = options.folder
    measured = {"generator_step": step, "generation": generation, "candidate_batch": scored}
    result = {"rows": rows, "seconds": measured, "device": str(device), "macro": macro.name, "batch_size": c.batch_size}
    write_json(folder / "cost.json", result)
    _plot(rows, folder / "cost.png", f"{macro.name} structure, {device.type}")
    say(str(folder / "cost.png"))
    return result


def _plot(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.5))
    n = [row["constraints"] for row in rows]
    axes.plot(n, [row["generator_seconds"] / 3600 for row in rows], "o-", label="architecture generator")
    axes.plot(n, [row["evolution_seconds"] / 3600 for row in rows], "s--", label="one search per constraint")
    axes.set(xlabel="constraints N", ylabel="hours (supernet not counted)", xticks=n, title=title)
    axes.set_ylim(bottom=0)
    axes.legend()
    write_figure(figure, path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
