"""The compared methods (Method 10): an evolutionary search per constraint on the same supernet, and random search.

Not in the authors' repository, which gives no search baseline; the usual recipe of single-path methods (population,
mutation and crossover among the best, each candidate scored with the supernet's weights).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from common.errors import UserError
from common.run import seeds
from common.run.folder import open_run
from papers.sgnas.generate import write_architectures
from papers.sgnas.method.lookup import Lookup, cost_of_ops, cost_range, macs_table
from papers.sgnas.method.prior import random_candidate
from papers.sgnas.method.sampling import trained_code
from papers.sgnas.networks.architectures import SKIP, SUB_BLOCKS, Ops, kernels_of
from papers.sgnas.studies.scored import Scored, open_scored
from papers.sgnas.studies.settings import Evolve

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

Candidate = tuple[float, Ops]  # (error in percent, operation indices)
MAX_TRIES = 2_000


def evolve(settings: Evolve, options: RunOptions) -> dict[str, Any]:
    """The ``evolve`` verb: one search per target; architecture files as the generator writes them.

    for every target:
        population = random candidates, each steered to the target's cost and scored
        for every generation:
            children: a mutant or a cross of the best, in turn (random search: a random candidate), steered and scored
            population = the best of old and new
        the answer is the best of the last population
    """
    c = settings
    c.check(options.given)
    if not c.supernet:
        raise UserError("evolve needs a trained supernet: --supernet FOLDER/supernet.safetensors")
    scored = open_scored(c, options, "validation", "evolve")
    lookup = macs_table(scored.supernet.macro)
    check_targets(c.targets, lookup)
    with open_run(options, c, data=scored.images, trained_on=scored.provenance.to_json()) as run:
        if run.result is not None:
            return run.result
        rows: list[dict[str, Any]] = []
        run.keeps(rows=rows)
        for number, target in run.each(c.targets, "target"):
            rng = seeds.numpy_rng(options.seed, "evolve", number)
            population: list[Candidate] = []
            children: list[Candidate] = []
            admission = Admission(scored, lookup, float(target), c.tolerance, rng, {})
            run.keeps(rng=rng, population=population, children=children, errors=admission.errors)
            for _ in run.each(5 * c.population, "candidate"):
                if len(population) < c.population:
                    population += admission.of(random_candidate(rng, len(lookup.expand)))
            if not population:
                raise UserError(
                    f"no architecture within {c.tolerance:g} of {target:g} {lookup.unit} was found; raise --tolerance"
                )
            for _ in run.epochs(c.generations, "generation"):
                parents = [ops for _, ops in sorted(population)[: c.parents]]
                for place, _ in run.each(c.population, "child"):
                    children += admission.of(child(c, parents, place, rng, len(lookup.expand)))
                population[:] = sorted(population + children)[: c.population]
                children.clear()
            rows.append(row_of(min(population), float(target), lookup, len(admission.errors)))
            row = rows[-1]
            run.log(
                target=row["target"], lookup_cost=row["lookup_cost"],
                valid_top1_error_percent=row["validation_error"], scored=row["scored"],
            )  # fmt: skip
        return run.finish(result_of(rows, scored, lookup, run))


@dataclass
class Admission:
    """Candidates for one target: steered to its cost, scored once each under the code that the supernet was trained on.

    errors: of what was scored, by code.
    """

    scored: Scored
    lookup: Lookup
    target: float
    tolerance: float
    rng: np.random.RandomState
    errors: dict[str, float]

    def of(self, ops: Ops) -> list[Candidate]:
        """The candidate made of operations; none where its cost does not come near enough."""
        fitted = steer(ops, self.lookup, self.target, self.tolerance, self.rng)
        if fitted is None:
            return []
        code = trained_code(fitted, self.scored.provenance.active)
        name = str(code)
        if name not in self.errors:
            self.errors[name] = self.scored.error(code)
        return [(self.errors[name], code)]


def child(c: Evolve, parents: list[Ops], place: int, rng: np.random.RandomState, layers: int) -> Ops:
    """The operations of child number ``place`` of a generation, before they are steered to the cost."""
    if c.random:
        return random_candidate(rng, layers)
    first, second = parents[rng.randint(len(parents))], parents[rng.randint(len(parents))]
    return mutate(first, c.mutation, rng) if place % 2 else cross(first, second, rng)


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


def check_targets(targets: tuple[float, ...], lookup: Lookup) -> None:
    """Raises UserError for a target that no architecture of the space has."""
    cheapest, dearest = cost_range(lookup)
    for target in targets:
        if not cheapest <= target <= dearest:
            raise UserError(
                f"target {target:g} lies outside this space ({cheapest:.1f} to {dearest:.1f} {lookup.unit})"
            )


def row_of(best: Candidate, target: float, lookup: Lookup, scored: int) -> dict[str, Any]:
    """What the result says of one target."""
    error, ops = best
    cost = cost_of_ops(lookup, ops)
    return {"target": target, "lookup_cost": cost, "validation_error": error, "scored": scored, "ops": ops}


def result_of(rows: list[dict[str, Any]], scored: Scored, lookup: Lookup, run: Any) -> dict[str, Any]:
    """Write the architectures; the result of all targets."""
    macro = scored.supernet.macro
    found = [(row["target"], kernels_of(row["ops"]), row["lookup_cost"]) for row in rows]
    if run.writes:
        origin = {**run.origin, "dataset": scored.name, "classes": scored.supernet.classes}
        write_architectures(run.folder, macro, lookup.unit, found, origin)
    middle = sorted(found)[len(found) // 2]
    metrics = {
        "scored": sum(row["scored"] for row in rows),
        "mean_error": float(np.mean([row["validation_error"] for row in rows])),
    }
    architecture = {"kernels": middle[1], "macro": macro.name}
    return {"metrics": metrics, "architecture": architecture, "architectures": rows}
