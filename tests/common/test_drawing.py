"""Drawn cells: columns follow the edges, no edge hides a node, no two labels share a spot."""

import itertools
import math

import pytest

from common.data.nasbench201 import drawn_edges
from common.errors import UserError
from common.spaces import drawing
from common.spaces.darts.genotype import drawn_pairs
from papers.evnas.describe import graphs
from papers.evnas.networks import PUBLISHED
from papers.nsas.describe import recurrent_edges
from papers.nsas.recurrent.architecture import load_cell

CELLS = [drawn_pairs(pairs) for cells in PUBLISHED.values() for pairs in (cells.normal, cells.reduce)]
CELLS += [recurrent_edges(load_cell("Random_NSAS"))]
CELLS += [drawn_edges("|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|nor_conv_1x1~0|none~1|nor_conv_3x3~2|")]


@pytest.mark.parametrize("edges", CELLS)
def test_edges_lead_to_the_right_and_past_other_nodes(edges):
    place = drawing.layout(edges)
    assert set(place) == {name for a, b, _ in edges for name in (a, b)}
    for a, b, _ in edges:
        assert place[a][0] < place[b][0]
    hidden = [
        (a, b, node)
        for a, b, _ in edges
        for node in place
        if node not in (a, b) and drawing._distance(place[node], place[a], place[b]) < 0.3
    ]
    assert len(hidden) <= len(edges) // 6, hidden  # a recurrent cell of nine nodes cannot avoid every one


@pytest.mark.parametrize("edges", CELLS)
def test_labels_have_spots_of_their_own(edges):
    spots = drawing._labels(edges, drawing.layout(edges))
    labelled = [spot for spot, (_, _, label) in zip(spots, edges, strict=True) if label]
    for one, other in itertools.combinations(labelled, 2):
        assert math.dist(one, other) > 0.1


def test_a_cycle_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="cycle"):
        drawing.draw_cells([("a", "b", None), ("b", "c", None), ("c", "b", None)], tmp_path / "x.svg")


def test_cells_of_nasbench201():
    text = "|none~0|+|skip_connect~0|none~1|+|nor_conv_3x3~0|none~1|avg_pool_3x3~2|"
    assert drawn_edges(text) == [("0", "2", "skip_connect"), ("0", "3", "nor_conv_3x3"), ("2", "3", "avg_pool_3x3")]
    assert graphs(text) == {"cell": drawn_edges(text)}
    assert drawn_edges("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|") == [("0", "3", "none")]
    with pytest.raises(UserError, match="architecture string"):
        drawn_edges("|conv~0|")


def test_an_input_that_nothing_reads_is_drawn(tmp_path):
    edges = [("c_{k-1}", "0", "skip_connect"), ("0", "c_{k}", None)]
    inputs = ("c_{k-2}", "c_{k-1}")
    assert drawing.node_colours(edges, inputs)["c_{k-2}"] == drawing.INPUT
    assert "c_{k-2}" in drawing.layout(edges, inputs) and "c_{k-2}" not in drawing.layout(edges)
    assert '"c_{k-2}" [fillcolor=' in drawing.dot_text(edges, inputs=inputs)
    drawing.draw_cells(edges, tmp_path / "cell.svg", inputs=inputs)
    drawing.draw_cells(edges, tmp_path / "without.svg")
    assert (tmp_path / "cell.svg").read_text().count("<path") > (tmp_path / "without.svg").read_text().count("<path")
