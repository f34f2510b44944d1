"""The switches of an evolution step."""

from __future__ import annotations

import torch

from papers.evnas.method.evolution import Draws, Rules, evolve
from papers.evnas.method.population import NB201


def test_switches_of_evolution():
    draws = Draws.stream(NB201, 0, "test")
    population = draws.population(6)
    fitness = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    kept = {tuple(a.flatten().tolist()) for a in population}
    copies = evolve(population, fitness, Rules(3, 1, 0.1, crossover=False, mutation=False), draws)
    assert {tuple(a.flatten().tolist()) for a in copies} <= kept and torch.equal(copies[0], population[0])
    crossed = evolve(population, fitness, Rules(3, 1, 0.1, mutation=False), draws)
    rows = {tuple(row.tolist()) for a in population for row in a}
    assert {tuple(row.tolist()) for a in crossed for row in a} <= rows
