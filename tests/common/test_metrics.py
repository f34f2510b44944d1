import pytest

from common.train.metrics import kendall_tau


def test_kendalls_tau():
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == 1
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    assert kendall_tau([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / (2 * 3) ** 0.5)  # one tie in the first
    assert kendall_tau([1, 1, 1], [1, 2, 3]) == kendall_tau([1], [2]) == 0
