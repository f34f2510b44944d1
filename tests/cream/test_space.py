"""Costs and windows of paths."""

from dataclasses import replace
from fractions import Fraction

import pytest

from common.errors import UserError
from papers.cream.method.space import space_of
from papers.cream.networks.architectures import SKIP
from tests.cream.tools import SEARCH


def test_table_sums_are_the_same_in_every_python():
    """Builtin ``sum`` of floats rounds differently before and since Python 3.12; the table's sums are exact ones."""
    space = space_of(SEARCH)
    table = space.table
    for number in range(20):
        path = space.draw(0, number)
        places = [(s, p, c) for s, entries in enumerate(path) for p, c in enumerate(entries) if c != SKIP]
        for found, rows, fixed in (
            (table.flops(path), table.mflops, table.fixed),
            (table.parameters(path), table.params, table.params_fixed),
        ):
            assert found == fixed + float(sum(Fraction(rows[s][p][c]) for s, p, c in places))


def test_window_of_a_small_resolution():
    """Below 80 MFLOPs the window shrinks the resolution; paths are then counted there, or at 224 as released."""
    small = replace(SEARCH, macs_max=60.0, enforce_window=True)
    assert space_of(small).window.resolution == 192
    with pytest.raises(UserError, match=r"no path with 0 to 60 MFLOPs in 10000 draws \(counted at 224"):
        space_of(small).draw(0, 0)
    applied = space_of(replace(small, apply_resolution=True, resolution=64))
    path = applied.draw(0, 0)
    assert applied.mflops(path) <= 60 < space_of(small).mflops(path)
