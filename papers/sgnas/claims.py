"""Claims that need no training: sizes of the published networks and what the published generator gives."""

from __future__ import annotations

from typing import Any

from papers.sgnas.architectures import PUBLISHED, kernels_of
from papers.sgnas.describe import counts, describe


def millions(name: str, key: str) -> float:
    """A count of a published network in millions, for the rounded figures of the model zoo."""
    return describe(name, "imagenet")[key] / 1e6


def generated(target: float, key: str) -> float:
    """lookup (MFLOPs), parameters, macs_published of what the published generator gives; ``same``: 1 if the kernels are
    those of the published network with that target.
    """
    from papers.sgnas.architectures import PUBLISHED_TARGETS
    from papers.sgnas.generate import load_generator

    loaded = load_generator("published")
    kernels, cost = loaded.kernels([float(target)])[0]
    if key == "lookup":
        return cost
    if key == "same":
        return float(any(PUBLISHED[n] == kernels for n, t in PUBLISHED_TARGETS.items() if t == float(target)))
    return float(counts(kernels, loaded.macro, 1000, True)[key])


def fit(key: str) -> float:
    """kendall_tau or total_hardware_loss of the published generator over 270, 280, … 440."""
    from papers.sgnas.generate import load_generator
    from papers.sgnas.sweep import fit_of

    return fit_of(load_generator("published"))[key]


def prior_is_first_draw() -> float:
    """1 if the published prior is what the sampler accepts first from NumPy's legacy generator with seed 42."""
    import numpy as np

    from papers.sgnas.generate import load_generator
    from papers.sgnas.lookup import one_hot
    from papers.sgnas.prior import draw_prior

    loaded: Any = load_generator("published")
    drawn = draw_prior(loaded.lookup, 360.0, np.random.RandomState(42))
    stored = loaded.pool.nearest(360.0).view(-1, 6, 4).argmax(-1)
    return float(kernels_of(drawn) == kernels_of(stored.tolist()) and one_hot(stored).sum() == 19 * 6)
