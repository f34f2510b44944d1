"""Settings of the studies: evolution on a trained supernet, sweeps of a generator, and times on this device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from common.errors import UserError
from common.settings import Settings, refuse_idle, setting
from papers.sgnas.settings import OfAGenerator


@dataclass(frozen=True)
class Scoring(Settings):
    """Scoring architectures with a trained supernet."""

    supernet: str = setting("", "trained supernet: supernet.safetensors of a search, or its folder")
    dataset: str = setting("", "the supernet's own set (empty: where it was when the supernet was trained)")
    search_images: int = setting(
        2_000, "at most so many images to score on, none of which the supernet was trained on; 0: all of those",
        at_least=0,
    )  # fmt: skip
    batch_size: int = setting(256, "images per scored batch", at_least=1)
    recalibrate_batches: int = setting(
        0, "training batches for re-estimating batch normalisation before an architecture is scored; 0: off, as in the "
        "original", at_least=0,
    )  # fmt: skip


@dataclass(frozen=True)
class Sweep(OfAGenerator, Scoring):
    """Target against obtained cost (and supernet error, where a supernet is given), as table and plot."""

    step_mflops: float = setting(10.0, "between two targets, in the generator's unit", above=0)

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError for settings of a supernet that is not there."""
        super().check(given)
        if not self.supernet:
            scoring = ("dataset", "search_images", "batch_size", "recalibrate_batches")
            refuse_idle(self, dict.fromkeys(scoring, "--supernet FILE"), given)


@dataclass(frozen=True)
class Evolve(Scoring):
    """The compared family of methods: one evolutionary search per constraint on the same supernet."""

    targets: tuple[float, ...] = setting((275.0, 320.0, 365.0), "constraints in millions of multiply-adds", above=0)
    tolerance: float = setting(2.0, "largest excess or shortfall of a candidate, in MFLOPs", at_least=0)
    population: int = setting(20, "architectures that survive a generation", at_least=1)
    generations: int = setting(10, "generations after the first population", at_least=0)
    parents: int = setting(5, "best architectures that children are made from", at_least=1)
    mutation: float = setting(0.1, "chance that a sub-block is drawn anew", at_least=0, at_most=1)
    random: bool = setting(
        False, "random search with the same number of scored candidates instead (the baseline at equal MACs)"
    )

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError without targets, and for settings that random search does not use."""
        if self.random:
            needs = dict.fromkeys(("parents", "mutation"), "an evolutionary search (no --random)")
            refuse_idle(self, needs, given)
        if not self.targets:
            raise UserError("no targets; give at least one, such as --targets 320")


@dataclass(frozen=True)
class Cost(Settings):
    """Time for N constraints: one generator against one evolutionary search per constraint."""

    search: str = setting(
        "", "folder of a finished search-generator run, whose time is used; empty: the generator is timed here per step"
    )
    evolved: str = setting(
        "", "folder of a finished evolve run, whose time per constraint is used; empty: candidates are timed here"
    )
    counts: tuple[int, ...] = setting((1, 3, 10), "numbers of constraints", at_least=1)
    macro: Literal["imagenet", "cifar", "tiny"] = setting("cifar", "macro structure")
    batch_size: int = setting(16, "images per timed batch", at_least=1)
    generator_steps: int = setting(12_512, "steps that a generator takes; the published one's Adam steps", at_least=1)
    candidates: int = setting(1_000, "architectures that an evolutionary search scores per constraint", at_least=1)
    candidate_batches: int = setting(40, "batches per scored architecture", at_least=1)
    repeats: int = setting(2, "timed steps, whose median counts", at_least=1)

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError without constraints, and for what a finished run's time makes needless."""
        idle: dict[str, Any] = {"generator_steps": "a generator timed here (no --search)"} if self.search else {}
        if self.evolved:
            idle |= dict.fromkeys(("candidates", "candidate_batches"), "candidates timed here (no --evolved)")
        refuse_idle(self, idle, given)
        if not self.counts:
            raise UserError("--counts needs numbers of constraints, such as 1 3 10")


@dataclass(frozen=True)
class Latency(Settings):
    """Measure a latency table on this device."""

    macro: Literal["imagenet", "cifar", "tiny"] = setting("imagenet", "macro structure")
    batch_size: int = setting(1, "images per timed forward pass", at_least=1)
    repeats: int = setting(10, "timed passes of every operation, whose median counts", at_least=1)
