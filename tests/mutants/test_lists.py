"""The lists of wrong changes fit the code: ``make mutants`` would try every one of them."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.__main__ import ROOT, ListError, changes, chosen

EVERY = changes()


@pytest.mark.parametrize("area", sorted({change.area for change in EVERY}))
def test_every_change_fits_the_code(area):
    for change in chosen(EVERY, [area]):
        ast.parse(change.apply(ROOT))
        assert change.why and change.tests
        for test in change.tests:
            assert (ROOT / test.partition("::")[0]).exists(), (str(change), test)


def test_a_change_that_does_not_fit_is_named(tmp_path):
    (tmp_path / EVERY[0].file).parent.mkdir(parents=True)
    (tmp_path / EVERY[0].file).write_text("nothing of it\n")
    with pytest.raises(ListError, match="stands 0 times"):
        EVERY[0].apply(tmp_path)
    with pytest.raises(ListError, match="no area and no change is called nowhere"):
        chosen(EVERY, ["nowhere"])
