"""Drawn cells: no edge through a node that is not its own, no label on anything, everything inside the picture."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from common.data.nasbench201 import drawn_edges, to_string
from common.errors import UserError
from common.spaces import drawing
from common.spaces.blocks import Block, draw_blocks, size_of
from common.spaces.cells import cells_of, darts_cells, nasbench201_cell
from common.spaces.darts.genotype import CONCAT, NODES, PRIMITIVES, Genotype
from common.spaces.drawing import Graph, canvas, placed
from common.spaces.layered import text_width
from common.weights.own import save_weights
from papers.cream.describe import blocks_of as cream_blocks
from papers.cream.networks.architectures import PUBLISHED as CREAM
from papers.cream.networks.layout import network_spec
from papers.evnas.networks.architectures import PUBLISHED as EVNAS
from papers.evnas.networks.architectures import load_genotype
from papers.nao_v2.describe import INPUTS, ZERO, labelled_edges
from papers.nao_v2.networks.architectures import PUBLISHED_TEXT, SPACES, parse, random_architecture
from papers.nsas.describe import RECURRENT_INPUTS, graphs, recurrent_edges
from papers.nsas.networks.architectures import CNN, NB201
from papers.nsas.recurrent.architecture import ACTIVATIONS, STEPS, Recurrent
from papers.sgnas.describe import blocks_of as sgnas_blocks
from papers.sgnas.networks.architectures import MACROS, Architecture, load_kernels
from papers.sgnas.networks.architectures import PUBLISHED as SGNAS

RANDOM = 200


def nao(name: str, cells: tuple, space: str) -> list[Graph]:
    return [Graph(name, tuple(labelled_edges(cell, space)), INPUTS, ("c_{k}",), ZERO) for cell in cells]


def published() -> Iterator[Graph]:
    for name, genotype in {**EVNAS, **CNN}.items():
        yield from darts_cells(genotype, name).values()
    for code in NB201.values():
        yield from cells_of(code, load_genotype).values()
    for name, text in PUBLISHED_TEXT.items():
        yield from nao(name, parse(text), "small")
    yield from graphs("Random_NSAS", recurrent=True).values()


def random_darts(rng: np.random.RandomState) -> list[Graph]:
    sides = []
    for _ in range(2):
        pairs = []
        for node in range(NODES):
            states = rng.choice(node + 2, 2, replace=bool(rng.randint(2)))
            pairs += [(PRIMITIVES[rng.randint(len(PRIMITIVES))], int(state)) for state in states]
        sides += [tuple(pairs), CONCAT]
    return list(darts_cells(Genotype(*sides), "random").values())


def random_201(rng: np.random.RandomState) -> list[Graph]:
    return list(nasbench201_cell(to_string([int(op) for op in rng.randint(0, 5, 6)]), "random").values())


def random_nao(rng: np.random.RandomState) -> list[Graph]:
    space = list(SPACES)[rng.randint(len(SPACES))]
    return nao("random", random_architecture(rng, len(SPACES[space])), space)


def random_recurrent(rng: np.random.RandomState) -> list[Graph]:
    nodes = tuple((ACTIVATIONS[rng.randint(5)], int(rng.randint(0, node + 1))) for node in range(STEPS))
    cell = Recurrent(nodes, tuple(range(1, STEPS + 1)))
    return [Graph("random", tuple(recurrent_edges(cell)), RECURRENT_INPUTS, ("h_{t}",))]


def stroke(place, number: int, ends: tuple[str, str], samples: int = 8) -> np.ndarray:
    """Points [n, 2] of an edge as it is drawn: level pieces and cubic climbs."""
    line, t = place.curves[number], np.linspace(0, 1, samples)[:, None]
    points = [np.array([[place.nodes[ends[0]].right, line[0][0][1]]])]
    for (xa, ya), (xb, yb) in line:
        middle = (xa + xb) / 2
        a, b, c, d = (np.array(p) for p in ((xa, ya), (middle, ya), (middle, yb), (xb, yb)))
        points.append((1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d)
    corners = np.concatenate([*points, [[place.nodes[ends[1]].left, line[-1][1][1]]]])
    x = np.arange(corners[0, 0], corners[-1, 0], 0.04)  # an edge never turns back
    return np.concatenate([np.stack([x, np.interp(x, corners[:, 0], corners[:, 1])], 1), corners])


def faults(graph: Graph) -> list[str]:
    """What is wrong with the picture of a graph."""
    place, found = placed(graph), []
    assert set(place.nodes) == set(graph.names)
    assert set(place.labels) == {n for n, (_, _, label) in enumerate(graph.edges) if label}
    boxes = {**{f"node {name}": box for name, box in place.nodes.items()},
             **{f"label {n} {box.text}": box for n, box in place.labels.items()}}  # fmt: skip
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        if abs(a.x - b.x) < (a.width + b.width) / 2 and abs(a.y - b.y) < (a.height + b.height) / 2:
            found.append(f"{one} lies on {other}")
    width, height = canvas(graph, place)
    for name, box in boxes.items():
        if box.left < -1e-9 or box.right > place.width + 1e-9 or place.width > width:
            found.append(f"{name} is outside")
        if box.y - box.height / 2 < -1e-9 or box.y + box.height / 2 > place.height + 1e-9 or place.height > height:
            found.append(f"{name} is outside")
    frames = np.array([[b.left, b.right, b.y - b.height / 2, b.y + b.height / 2] for b in boxes.values()])
    for number, (a, b, label) in enumerate(graph.edges):
        points = stroke(place, number, (a, b))
        if any(end[0] < start[0] for start, end in place.curves[number]):
            found.append(f"edge {number} turns back")
        x, y = points[:, :1], points[:, 1:]
        slack = 0.02
        inside = (frames[:, 0] + slack < x) & (x < frames[:, 1] - slack) & (frames[:, 2] < y) & (y < frames[:, 3])
        met = {name for name, hit in zip(boxes, inside.any(0)) if hit}
        own = {f"label {number} {label}"} if label else set()
        if met != own:
            found.append(f"edge {number} ({a} to {b}) meets {sorted(met)}, not {sorted(own)}")
        if y.min() < -0.1 or y.max() > place.height + 0.1:
            found.append(f"edge {number} leaves the picture")
    return found


def test_published_cells():
    cells = list(published())
    assert len(cells) > 40
    assert not [(graph.title, bad) for graph in cells if (bad := faults(graph))]


@pytest.mark.parametrize("draw", [random_darts, random_201, random_nao, random_recurrent])
def test_random_cells(draw):
    rng = np.random.RandomState(7)
    bad = [(graph, wrong) for _ in range(RANDOM) for graph in draw(rng)[-1:] if (wrong := faults(graph))]
    assert not bad, bad[0]


def test_the_check_finds_faults(monkeypatch):
    """Were every item of one column at one height, the check would say so."""
    monkeypatch.setattr("common.spaces.layered.BETWEEN", -0.4)
    assert any("lies on" in fault for fault in faults(next(published())))
    monkeypatch.setattr("common.spaces.layered.LANE", -1.0)
    assert any("meets" in fault for graph in published() for fault in faults(graph))


def test_letters_fit_the_boxes_that_are_kept_for_them():
    """``text_width`` needs no renderer; matplotlib's own measure is never above it."""
    from matplotlib.textpath import TextPath

    words = {label for graph in published() for _, _, label in graph.edges if label}
    words |= {op for space in SPACES.values() for op in space} | set(PRIMITIVES) | {"EvNASA: normal cell", "WWW mmm"}
    for word in words:
        assert TextPath((0, 0), word, size=10).get_extents().width / 72 <= drawing.text_width(word, 10) + 1e-6, word


def test_what_carries_nothing_is_no_input():
    """Node 1 gets ``none`` alone: it is grey, and so is node 2 behind it; node 0 is the one input."""
    graph = cells_of("|none~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|avg_pool_3x3~2|", load_genotype)["cell"]
    assert graph.colours == {"0": drawing.INPUT, "1": drawing.IDLE, "2": drawing.IDLE, "3": drawing.OUTPUT}
    empty = cells_of("000000", load_genotype)["cell"]
    assert empty.edges == () and empty.colours == {"0": drawing.IDLE, "3": drawing.IDLE}
    for rng in (np.random.RandomState(k) for k in range(RANDOM)):
        colours = random_201(rng)[0].colours
        assert {name for name, colour in colours.items() if colour == drawing.INPUT} <= {"0"}
    idle = darts_cells(Genotype((("none", 0), ("skip_connect", 1)) * 4, CONCAT, (("none", 0),) * 8, CONCAT), "x")
    assert idle["normal"].colours["c_{k-2}"] == drawing.IDLE and idle["normal"].colours["c_{k-1}"] == drawing.INPUT
    assert set(idle["reduction"].colours.values()) == {drawing.IDLE}
    assert nao("x", parse("0 0 1 1 " * 10, "middle"), "middle")[0].colours["c_{k-2}"] == drawing.IDLE


def test_a_cycle_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="cycle"):
        drawing.draw_graph(Graph("", (("a", "b", None), ("b", "c", None), ("c", "b", None))), tmp_path / "x.svg")


def test_cells_of_nasbench201():
    text = "|none~0|+|skip_connect~0|none~1|+|nor_conv_3x3~0|none~1|avg_pool_3x3~2|"
    assert drawn_edges(text) == [("0", "2", "skip_connect"), ("0", "3", "nor_conv_3x3"), ("2", "3", "avg_pool_3x3")]
    assert cells_of(text, load_genotype)["cell"].edges == tuple(drawn_edges(text))
    with pytest.raises(UserError, match="architecture string"):
        drawn_edges("|conv~0|")


def test_only_the_states_that_a_cell_puts_out_lead_to_its_output():
    genotype = Genotype(EVNAS["EvNASA"].normal, (4, 5), EVNAS["EvNASA"].reduce, CONCAT)
    out = [a for a, b, _ in darts_cells(genotype, "x")["normal"].edges if b == "c_{k}"]
    assert out == ["2", "3"]


def test_formats_and_titles(tmp_path):
    """The same picture twice is the same file, and the title names the network."""
    graph = cells_of("EvNASA", load_genotype)["normal"]
    assert graph.title == "EvNASA: normal cell"
    for kind in drawing.CELL_FORMATS:
        files = [tmp_path / f"{k}.{kind}" for k in range(2)]
        for file in files:
            drawing.draw_graph(graph, file)
        assert files[0].read_bytes() == files[1].read_bytes()
    assert 'digraph "EvNASA: normal cell"' in files[0].read_text()
    for title in ("a$b$c.json", "$", "x" * 300, "\u03b1_{k"):  # whatever a file is called
        drawing.draw_graph(replace(graph, title=title), tmp_path / "odd.svg")
    with pytest.raises(UserError, match="svg, png, pdf, dot"):
        drawing.draw_graph(graph, tmp_path / "x.gif")


def test_blocks_say_stage_side_channels_kernel_and_expansion():
    found = {name: cream_blocks(network_spec(path), 224) for name, path in CREAM.items()}
    assert found["287"][2] == Block("1", 56, 24, (3,) * 4)  # a stage of one block is built by the released default
    assert [b.side for b in found["604"] if not b.word][-1] == 7
    for name in SGNAS:
        kernels, macro = load_kernels(name)
        found[name] = sgnas_blocks(Architecture(name, kernels))
        assert [list(b.kernels) for b in found[name] if not b.fixed and not b.word] == kernels and macro == "imagenet"
        assert (found[name][2].side, found[name][-1].side, found[name][-1].channels) == (56, 7, 1280)
    for name, blocks in found.items():
        width, height = size_of(blocks, name)
        assert width > 0.4 * len(blocks) + 1 and height < 4


class Recorder:
    """Axes that keep where what is drawn would stand: (left, right, bottom, top, words), in inches."""

    def __init__(self):
        self.texts, self.boxes = [], []

    def text(self, x, y, words, fontsize, ha, **_):
        wide, high = text_width(words, fontsize), fontsize / 72
        left = x - wide * {"left": 0.0, "center": 0.5, "right": 1.0}[ha]
        self.texts.append((left, left + wide, y - high / 2, y + high / 2, words))

    def add_patch(self, patch):
        (x, y), wide, high = patch
        self.boxes.append((x, x + wide, y, y + high, "box"))

    def plot(self, x, y, **_):
        self.boxes.append((min(x), max(x), min(y), max(y), "line"))


def faults_of_blocks(blocks: list[Block], title: str, folder) -> list[str]:
    """What overlaps or leaves the picture."""
    drawn, size = Recorder(), size_of(blocks, title)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("common.spaces.blocks.blank", lambda width, height: (None, drawn))
        patched.setattr("common.spaces.blocks.save", lambda figure, path: None)
        patched.setattr("matplotlib.patches.Rectangle", lambda corner, wide, high, **_: (corner, wide, high))
        draw_blocks(blocks, title, folder, "svg")
    found = []
    for left, right, low, high, words in [*drawn.texts, *drawn.boxes]:
        if left < 0 or right > size[0] or low < 0 or high > size[1]:
            found.append(f"{words!r} leaves the picture")
    rows = sorted(drawn.texts, key=lambda t: (t[2], t[0]))
    for one, other in itertools.pairwise(rows):
        if one[3] > other[2] and one[1] > other[0]:
            found.append(f"{one[4]!r} stands on {other[4]!r}")
    return found


def random_blocks(rng: np.random.RandomState) -> Iterator[tuple[str, list[Block]]]:
    """A network of Cream's whole space and one of each structure of SGNAS, at a random size of picture."""
    path = [[0], *(rng.randint(0, 7, rng.randint(1, 7)).tolist() for _ in range(5)), [0]]
    with contextlib.suppress(UserError):
        yield "Cream", cream_blocks(network_spec(path), int(rng.choice([32, 48, 224, 512])))
    macro = MACROS[("imagenet", "cifar", "tiny")[rng.randint(3)]]
    kernels = [rng.choice([3, 5, 7], rng.randint(1, 7)).tolist() for _ in macro.layers]
    yield "SGNAS", sgnas_blocks(Architecture("random", kernels, macro.name))


def test_random_networks_of_blocks_overlap_nowhere(tmp_path):
    rng, drawn = np.random.RandomState(2), {"Cream": 0, "SGNAS": 0}
    for number in range(RANDOM):
        for paper, blocks in random_blocks(rng):
            drawn[paper] += 1
            title = f"results/paper/{paper}-{'long' * (number % 9)}/architecture.json"
            assert not faults_of_blocks(blocks, title, tmp_path), (paper, blocks)
    assert min(drawn.values()) > RANDOM * 0.9
    crowded = [replace(blocks[1], channels=123456789), *blocks]
    assert any("stands on" in fault for fault in faults_of_blocks(crowded, "x", tmp_path))


def test_weights_are_drawn_as_the_architecture_they_are_of(tmp_path):
    """What a training wrote says its cells; no other file is needed."""
    text = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
    for name, space, architecture in (
        ("a", "darts", EVNAS["EvNASA"].as_dict()), ("b", "nasbench201", text),
    ):  # fmt: skip
        about = {"paper": "evnas", "space": space, "architecture": architecture}
        save_weights(torch.nn.Linear(1, 1), tmp_path / f"{name}.safetensors", about)
    drawn = cells_of(str(tmp_path / "a.safetensors"), load_genotype)
    named = cells_of("EvNASA", load_genotype)
    assert {kind: graph.edges for kind, graph in drawn.items()} == {kind: graph.edges for kind, graph in named.items()}
    assert drawn["normal"].title == "a.safetensors: normal cell"
    cell = cells_of(str(tmp_path / "b.safetensors"), load_genotype)["cell"]
    assert cell.edges == tuple(drawn_edges(text))
