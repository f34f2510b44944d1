"""What a decoded individual makes of the mixture."""

from __future__ import annotations

import numpy as np
import torch

from papers.evnas.method.evolution import Draws
from papers.evnas.method.population import DARTS, mixtures


def test_decoding_tilts_the_mixture_and_beta_sharpens_it():
    population = Draws.stream(DARTS, 0, "test").population(1)
    normal, _ = mixtures(DARTS, population, True, 1.0)[0]
    values = {round(v, 6) for row in normal for v in row}
    assert values == {0.279708, 0.102899, 0.125}
    sharp, _ = mixtures(DARTS, population, True, 50.0)[0]
    assert max(v for row in sharp for v in row) > 0.999
    raw, _ = mixtures(DARTS, population, False, 1.0)[0]
    assert np.allclose(raw, torch.softmax(population[0, :14].double(), -1))
