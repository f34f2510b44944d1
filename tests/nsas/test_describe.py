"""Drawings of the cells."""

from __future__ import annotations

import pytest

from common.cli.verbs import main
from papers.nsas.__main__ import VERBS


@pytest.mark.parametrize(("flags", "cells"), [([], ["normal", "reduction"]), (["--recurrent"], ["recurrent"])])
def test_draw(flags, cells, tmp_path):
    main("nsas", VERBS, ["draw", "Random_NSAS", *flags, "--format", "svg", "--out", str(tmp_path)])
    shown = sorted(p.name for p in tmp_path.glob("[!.]*"))  # beside them the record of what is ours
    assert shown == sorted(f"{c}.{k}" for c in cells for k in ("dot", "svg"))
