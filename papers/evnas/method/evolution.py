"""One evolution step (Method 5 of the README): keep the elite, fill up with mutated children of tournament winners.

A population is a tensor [P, rows, operations]; fitness is a list of P numbers. Chance comes from a ``Draws`` object in
the order of the released program, so that its stream can be replayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from common.run import seeds
from papers.evnas.method.population import Space


class Chance(Protocol):
    """What an evolution step draws."""

    def positions(self, count: int, among: int) -> np.ndarray: ...  # distinct, uniform

    def uniform(self) -> float: ...  # U[0, 1)

    def individual(self) -> Tensor: ...  # U[0, 1) [rows, operations]

    def row(self) -> Tensor: ...  # U[0, 1) [operations]


class Draws:
    """The released program's two generators: NumPy for positions and coins, torch for alphas."""

    def __init__(self, space: Space, rng: np.random.RandomState, generator: torch.Generator) -> None:
        self.space, self.rng, self.generator = space, rng, generator

    @classmethod
    def stream(cls, space: Space, seed: int, *names: str | int) -> Draws:
        """Draws that belong to (seed, names), whatever was drawn before."""
        return cls(space, seeds.numpy_rng(seed, *names), seeds.generator(seed, *names))

    def positions(self, count: int, among: int) -> np.ndarray:
        """``count`` distinct positions out of ``among``."""
        return self.rng.choice(among, count, replace=False)

    def uniform(self) -> float:
        """U[0, 1)."""
        return float(self.rng.rand())

    def individual(self) -> Tensor:
        """A new individual, drawn matrix by matrix."""
        return torch.cat([torch.rand(shape, generator=self.generator) for shape in self.space.blocks])

    def row(self) -> Tensor:
        """A new row."""
        return torch.rand(1, self.space.operations, generator=self.generator)[0]

    def population(self, size: int) -> Tensor:
        """``size`` new individuals [size, rows, operations]."""
        return torch.stack([self.individual() for _ in range(size)])


@dataclass(frozen=True)
class Rules:
    """Sizes and switches of an evolution step."""

    tournament: int = 10
    elites: int = 1
    mutation_rate: float = 0.1
    crossover: bool = True
    mutation: bool = True


def ranking(fitness: list[float]) -> list[int]:
    """Positions in descending fitness (Method 5); equals keep their order."""
    return sorted(range(len(fitness)), key=lambda i: -fitness[i])


def tournament(fitness: np.ndarray, size: int, draws: Chance) -> int:
    """The fittest of ``size`` distinct positions drawn at random (Method 5), the first drawn among equals.

    fitness: [P], of the population as it is numbered.
    """
    drawn = draws.positions(size, len(fitness))
    return int(drawn[np.argmax(fitness[drawn])])


def crossed(population: Tensor, fitness: np.ndarray, rules: Rules, draws: Chance) -> Tensor:
    """A child [rows, operations] of two tournament winners (Method 5).

    Each row is the first's where u >= 1/2, else the second's.
    """
    first = tournament(fitness, rules.tournament, draws)
    second = tournament(fitness, rules.tournament, draws)
    draws.individual()  # a child is born with alphas of its own, which crossover overwrites
    coins = torch.tensor([draws.uniform() >= 0.5 for _ in range(population.shape[1])])
    return torch.where(coins[:, None], population[first], population[second])


def copied(population: Tensor, fitness: np.ndarray, rules: Rules, draws: Chance) -> Tensor:
    """A copy of one tournament winner, for searches without crossover."""
    return population[tournament(fitness, rules.tournament, draws)].clone()


def mutate(children: list[Tensor], rate: float, draws: Chance) -> None:
    """Replace each row of each child with probability ``rate`` by a fresh one, in place."""
    for child in children:
        for row in range(len(child)):
            if draws.uniform() < rate:
                child[row] = draws.row()


def evolve(population: Tensor, fitness: list[float], rules: Rules, draws: Chance) -> Tensor:
    """The next population [P, rows, operations] from one sorted by descending fitness (Method 5).

    The elites stand first, unchanged, then the children.
    """
    scores = np.asarray(fitness, dtype=np.float64)
    birth = crossed if rules.crossover else copied
    children = [birth(population, scores, rules, draws) for _ in range(len(population) - rules.elites)]
    if rules.mutation:  # after all children exist
        mutate(children, rules.mutation_rate, draws)
    return torch.stack([*population[: rules.elites], *children])
