"""The compared family of methods: an evolutionary search per constraint on the same supernet, and random search.

Not in the authors' repository, which gives no search baseline; the usual recipe of single-path methods (population,
mutation and crossover among the best, each candidate scored with the supernet's weights).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common.cli.errors import UserError
from common.cli.ranges import refuse_idle
from common.run import seeds
from common.run.folder import open_run
from common.train import distributed
from common.train.device import pick_device
from papers.sgnas.data import sets as datasets
from papers.sgnas.data.split import provenance_of
from papers.sgnas.generate import write_architectures
from papers.sgnas.method.generator_training import path_error
from papers.sgnas.method.lookup import Lookup, cost_of_ops, cost_range, macs_table
from papers.sgnas.method.prior import draw_candidate
from papers.sgnas.method.sampling import trained_code
from papers.sgnas.method.scoring import judge
from papers.sgnas.network.architectures import SKIP, SUB_BLOCKS, Ops, kernels_of
from papers.sgnas.network.fixed_supernet import FrozenSupernet
from papers.sgnas.network.supernet import load_supernet
from papers.sgnas.ranges import check_ranges
from papers.sgnas.settings import EvolveSettings

Candidate = tuple[float, Ops]
MAX_TRIES = 2_000


def steer(ops: Ops, lookup: Lookup, target: float, tolerance: float, rng: np.random.RandomState) -> Ops | None:
    """Move single sub-blocks at random, keeping moves that do not lead away, until the cost is within ``tolerance``."""
    ops = [list(row) for row in ops]
    miss = abs(cost_of_ops(lookup, ops) - target)
    for _ in range(MAX_TRIES):
        if miss <= tolerance:
            return ops
        layer, block, op = int(rng.randint(len(ops))), int(rng.randint(SUB_BLOCKS)), int(rng.randint(SKIP + 1))
        old = ops[layer][block]
        ops[layer][block] = op
        if block == 0 and op == SKIP:
            ops[layer][block] = old
            continue
        changed = abs(cost_of_ops(lookup, ops) - target)
        if changed <= miss:
            miss = changed
        else:
            ops[layer][block] = old
    return None


def mutate(ops: Ops, rate: float, rng: np.random.RandomState) -> Ops:
    """Redraw each sub-block with probability ``rate`` (sub-block 0 never skips)."""
    return [
        [
            int(rng.randint(SKIP if i == 0 else SKIP + 1)) if rng.random_sample() < rate else op
            for i, op in enumerate(row)
        ]
        for row in ops
    ]


def cross(first: Ops, second: Ops, rng: np.random.RandomState) -> Ops:
    """Each layer from one of the two parents."""
    return [list(a if rng.random_sample() < 0.5 else b) for a, b in zip(first, second)]


def evolve_one(
    score: Callable[[Ops], float],
    lookup: Lookup,
    target: float,
    c: EvolveSettings,
    rng: np.random.RandomState,
    active: str = "random",
) -> tuple[Candidate, int]:
    """(best candidate as (error, operations), number scored) for one constraint. Raises UserError when none fits.

    active: the sampling of the supernet's paths; candidates are scored under the codes that it trained.
    """
    known: dict[tuple, float] = {}

    def admit(ops: Ops, into: list[Candidate]) -> None:
        fitted = steer(ops, lookup, target, c.tolerance, rng)
        if fitted is None:
            return
        fitted = trained_code(fitted, active)
        key = tuple(map(tuple, fitted))
        if key not in known:
            known[key] = score(fitted)
        into.append((known[key], fitted))

    layers, population = len(lookup.expand), []
    for _ in range(c.population * 5):
        if len(population) == c.population:
            break
        admit(draw_candidate(rng, layers), population)
    if not population:
        raise UserError(
            f"no architecture within {c.tolerance:g} of {target:g} {lookup.unit} was found; raise --tolerance"
        )
    for _ in range(c.generations):
        if c.random:
            children: list[Candidate] = []
            for _ in range(c.population):
                admit(draw_candidate(rng, layers), children)
        else:
            parents = [ops for _, ops in sorted(population)[: c.parents]]
            children = []
            for number in range(c.population):
                a, b = parents[rng.randint(len(parents))], parents[rng.randint(len(parents))]
                admit(mutate(a, c.mutation, rng) if number % 2 else cross(a, b, rng), children)
        population = sorted(population + children)[: c.population]
    return min(population), len(known)


def evolve(settings: EvolveSettings, options: Any) -> dict[str, Any]:
    """The ``evolve`` verb: one search per target; architecture files as the generator writes them."""
    c = settings
    check_ranges(c)
    if c.random:
        needs = dict.fromkeys(("parents", "mutation"), "an evolutionary search (no --random)")
        refuse_idle(c, needs, options.given or frozenset())
    if not c.targets:
        raise UserError("no targets; give at least one, such as --targets 320")
    if not c.supernet:
        raise UserError("evolve needs a trained supernet: --supernet FOLDER/supernet.safetensors")
    device = pick_device(options)
    distributed.setup()
    trained = provenance_of(Path(c.supernet))
    name = c.dataset or trained.dataset
    images = datasets.open_set(name, "train", options)
    trained.check_set(name, images)
    supernet = load_supernet(Path(c.supernet)).to(device).eval()
    lookup = macs_table(supernet.macro)
    cheapest, dearest = cost_range(lookup)
    for target in c.targets:
        if not cheapest <= target <= dearest:
            raise UserError(
                f"target {target:g} lies outside this space ({cheapest:.1f} to {dearest:.1f} {lookup.unit})"
            )
    seen, held = trained.split.parts(images, c.search_images)
    batch = min(c.batch_size, len(held))
    scoring = datasets.loader(name, held, batch, options.seed, device, "validation", "evolve")
    calibrating = datasets.loader(
        name, seen, min(c.batch_size, len(seen)), options.seed, device, "search", "recalibrate"
    )
    extra = {"data": images.pins, "pinned": images.pinned, "trained_on": trained.to_json()}
    with open_run(options, c, extra) as run:
        if run.result is not None:
            return run.result
        frozen = FrozenSupernet(supernet)

        def score(ops: Ops) -> float:
            return path_error(judge(supernet, frozen, ops, calibrating, c.recalibrate), ops, scoring)[1]

        state = run.load() or {"rows": []}
        rows = state["rows"]
        for number, target in enumerate(c.targets):
            if number < len(rows):
                continue
            rng = seeds.numpy_rng(options.seed, "evolve", number)
            (error, ops), scored = evolve_one(score, lookup, float(target), c, rng, trained.active)
            cost = cost_of_ops(lookup, ops)
            rows.append(
                {"target": float(target), "lookup_cost": cost, "validation_error": error, "scored": scored, "ops": ops}
            )
            run.log(target=float(target), lookup_cost=cost, validation_top1_error_percent=error, scored=scored)
            run.save({"rows": rows})
        found = [(row["target"], kernels_of(row["ops"]), row["lookup_cost"]) for row in rows]
        if run.writes:
            origin = {**run.origin, "dataset": name, "classes": supernet.classes}
            write_architectures(run.folder, supernet.macro, lookup.unit, found, origin)
        middle = sorted(found)[len(found) // 2]
        content = {"kernels": middle[1], "macro": supernet.macro.name}
        metrics = {
            "scored": sum(row["scored"] for row in rows),
            "mean_error": float(np.mean([r["validation_error"] for r in rows])),
        }
        return run.finish({"metrics": metrics, "architecture": content, "architectures": rows})
