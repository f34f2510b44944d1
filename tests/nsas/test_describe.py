"""Drawings of the cells."""

from __future__ import annotations

import pytest

from common.cli.verbs import main
from common.spaces.architecture import save_architecture
from papers.nsas.__main__ import VERBS
from papers.nsas.describe import graphs
from papers.nsas.recurrent.architecture import RECURRENT


@pytest.mark.parametrize(("flags", "cells"), [([], ["normal", "reduction"]), (["--recurrent"], ["recurrent"])])
def test_draw(flags, cells, tmp_path):
    main("nsas", VERBS, ["draw", "Random_NSAS", *flags, "--format", "svg", "--out", str(tmp_path)])
    shown = sorted(p.name for p in tmp_path.glob("[!.]*"))  # beside them the record of what is ours
    assert shown == sorted(f"{c}.svg" for c in cells)


def test_a_file_says_that_its_cell_is_recurrent(tmp_path):
    """No flag is needed for what a search on a text wrote, nor for pasted text."""
    save_architecture(tmp_path / "found.json", "darts-rnn", RECURRENT["Random_NSAS"].as_names())
    pasted = f"Genotype(recurrent={list(RECURRENT['Random_NSAS'].recurrent)}, concat=range(1, 9))"
    for arch, title in ((str(tmp_path / "found.json"), "found.json"), (pasted, "pasted")):
        assert list(graphs(arch)) == ["recurrent"]
        assert graphs(arch)["recurrent"].title == f"{title}: recurrent cell"
        assert graphs(arch)["recurrent"].edges == graphs("Random_NSAS", recurrent=True)["recurrent"].edges
