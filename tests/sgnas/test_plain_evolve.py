"""The evolutionary baseline against a second one, written plainly; errors are a sum instead of a network's."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import pytest

from common.cli.verbs import RunOptions
from common.run import seeds
from common.run.folder import Run
from papers.sgnas.method.lookup import cost_of_ops, macs_table
from papers.sgnas.method.prior import random_candidate
from papers.sgnas.method.sampling import trained_code
from papers.sgnas.networks.architectures import kernels_of, macro_for
from papers.sgnas.studies import evolve as stage
from papers.sgnas.studies.settings import Evolve, Sweep

SEED, MACRO = 6, macro_for("tiny", 16)
TABLE = macs_table(MACRO)


def error_of(ops) -> float:
    """In percent; differs from operation to operation and from place to place."""
    return float(sum((7 * k + 3 * i + 11 * op) % 13 for k, row in enumerate(ops) for i, op in enumerate(row))) / 5


class Plainly:
    """One target."""

    def __init__(self, c: Evolve, number: int, target: float) -> None:
        self.c, self.target, self.rng = c, target, seeds.numpy_rng(SEED, "evolve", number)
        self.scored: dict[str, float] = {}

    def admit(self, ops) -> list:
        """Moved to the cost by single changes that do not lead away, then scored once under its trained code."""
        ops, rng = [list(row) for row in ops], self.rng
        miss = abs(cost_of_ops(TABLE, ops) - self.target)
        for _ in range(2000):
            if miss <= self.c.tolerance:
                code = trained_code(ops, "prefix")
                self.scored[str(code)] = error_of(code)
                return [(error_of(code), code)]
            layer, block, op = int(rng.randint(5)), int(rng.randint(6)), int(rng.randint(4))
            if block == 0 and op == 3:
                continue
            other = [list(row) for row in ops]
            other[layer][block] = op
            if (now := abs(cost_of_ops(TABLE, other) - self.target)) <= miss:
                ops, miss = other, now
        return []

    def child(self, parents, place: int):
        c, rng = self.c, self.rng
        if c.random:
            return random_candidate(rng, 5)
        first, second = parents[rng.randint(len(parents))], parents[rng.randint(len(parents))]
        if place % 2 == 0:
            return [list(a if rng.random_sample() < 0.5 else b) for a, b in zip(first, second)]
        found = []
        for row in first:
            found.append([])
            for i, op in enumerate(row):
                new = rng.random_sample() < c.mutation
                found[-1].append(int(rng.randint(3 if i == 0 else 4)) if new else op)
        return found

    def best(self):
        c, population = self.c, []
        for _ in range(5 * c.population):
            if len(population) < c.population:
                population += self.admit(random_candidate(self.rng, 5))
        for _ in range(c.generations):
            parents, children = [ops for _, ops in sorted(population)[: c.parents]], []
            for place in range(c.population):
                children += self.admit(self.child(parents, place))
            population = sorted(population + children)[: c.population]
        return min(population)


@pytest.mark.parametrize("random", [False, True])
def test_a_whole_search(tmp_path, monkeypatch, random):
    scored = SimpleNamespace(
        name="digits", images=SimpleNamespace(pins={}, pinned=True), error=error_of,
        supernet=SimpleNamespace(macro=MACRO, classes=10),
        provenance=SimpleNamespace(active="prefix", to_json=dict),
    )  # fmt: skip
    asked = []
    monkeypatch.setattr(stage, "open_scored", lambda c, options, *what: asked.append(what) or scored)
    monkeypatch.setattr(Run, "write_state", lambda self, state: None)
    c = Evolve(
        supernet="a", targets=(1.2, 0.9), tolerance=0.02, population=4, generations=3, parents=3, mutation=0.4,
        random=random,
    )  # fmt: skip
    if random:
        c = Evolve(supernet="a", targets=(1.2,), tolerance=0.02, population=4, generations=2, random=True)
    result = stage.evolve(c, RunOptions(out=tmp_path, device="cpu", paper="sgnas", section="evolve", seed=SEED))
    assert asked == [("validation", "evolve")]
    errors, count = [], 0
    for number, (target, row) in enumerate(zip(c.targets, result["architectures"], strict=True)):
        second = Plainly(c, number, target)
        error, ops = second.best()
        assert (row["validation_error"], row["ops"], row["scored"]) == (error, ops, len(second.scored))
        assert row["lookup_cost"] == pytest.approx(cost_of_ops(TABLE, ops)) and row["target"] == target
        errors, count = [*errors, error], count + len(second.scored)
    assert result["metrics"] == pytest.approx({"scored": count, "mean_error": sum(errors) / len(errors)})
    middle = max(result["architectures"], key=lambda row: row["target"])
    assert result["architecture"]["kernels"] == kernels_of(middle["ops"])


def test_defaults():
    """Our own choice for the baseline, typed a second time."""
    scoring = {"supernet": "", "dataset": "", "search_images": 2000, "batch_size": 256, "recalibrate_batches": 0}
    assert asdict(Evolve()) == {
        **scoring, "targets": (275.0, 320.0, 365.0), "tolerance": 2.0, "population": 20, "generations": 10,
        "parents": 5, "mutation": 0.1, "random": False,
    }  # fmt: skip
    assert asdict(Sweep()) == {**scoring, "generator": "published", "prior_pool": "", "step_mflops": 10.0}
