"""How well scores agree."""

from __future__ import annotations

from collections.abc import Sequence


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b of two lists of scores, -1 to 1.

    (concordant - discordant pairs) / sqrt((pairs not tied in a)(pairs not tied in b)); 0 where that is not defined, as
    one of them is constant or shorter than two.
    """
    if len(set(a)) < 2 or len(set(b)) < 2:
        return 0.0
    from scipy.stats import kendalltau

    return float(kendalltau(a, b).statistic)
