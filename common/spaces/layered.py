"""Layered layout of a small directed graph: no edge can run through a node, and no label can lie on anything.

Nodes stand in columns, every one left of what it leads to (Sugiyama, Tagawa & Toda 1981). A label is a box of its own
in a column between its edge's ends, and an edge that passes a column holds a free lane there. Boxes and lanes of one
column are stacked with space between them; between two columns there are only curves, which go from left to right
without turning back. Crossings of curves are lessened by sweeps of barycentres, heights are fitted by isotonic
regression column by column. Lengths are inches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Edge = tuple[str, str, str | None]
Point = tuple[float, float]

NODE_HEIGHT, LABEL_HEIGHT, LANE = 0.36, 0.18, 0.1
BETWEEN = 0.09
"""Least space between two boxes of a column."""
GAP = 0.42
"""Space between two columns; where curves climb, more."""
SWEEPS = 8


@dataclass(frozen=True)
class Box:
    """What stands in a column: a node, a label, or the lane of an edge that passes. x, y: its centre."""

    text: str
    kind: str
    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        """Its left side."""
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        """Its right side."""
        return self.x + self.width / 2


@dataclass(frozen=True)
class Layout:
    """nodes: by name. labels: by the edge's number. curves: by edge, pairs of (start, end) of a smooth climb; from its
    first node, between two climbs, behind its label and to its last node the edge runs level.
    """

    nodes: dict[str, Box]
    labels: dict[int, Box]
    curves: list[list[tuple[Point, Point]]]
    width: float
    height: float


@dataclass
class _Item:
    """A box on the way to its place."""

    text: str
    kind: str
    column: int
    width: float
    height: float
    before: list[int]
    after: list[int]
    y: float = 0.0


def text_width(text: str, size: float) -> float:
    """Inches that a text takes at a font size in points, at most (the wide letters of DejaVu Sans)."""
    return sum(0.97 if c in "mwMW@%" else 0.4 if c in "ijl.,:|' " else 0.66 for c in text) * size / 72


def ranks(names: Sequence[str], edges: Sequence[Edge], inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, int]:
    """Node -> its place from left to right: the longest way to it; outputs stand last. Raises ValueError for a cycle.

    A node that no edge leads to and that is no input stands just left of the first one that it leads to.
    """
    into = {name: {a for a, b, _ in edges if b == name} for name in names}
    rank: dict[str, int] = {}
    while len(rank) < len(names):
        ready = [n for n in names if n not in rank and into[n] <= set(rank)]
        if not ready:
            raise ValueError("cycle")
        for name in ready:
            rank[name] = max((rank[a] + 1 for a in into[name]), default=0)
    for name in reversed(names):
        if not into[name] and name not in inputs:
            rank[name] = max(0, min((rank[b] for a, b, _ in edges if a == name), default=1) - 1)
    last = max([1, *rank.values(), *(rank[n] + 1 for n in names if n not in outputs and outputs)])
    return rank | dict.fromkeys(outputs, last)


def layout(
    names: Sequence[str], edges: Sequence[Edge], inputs: Sequence[str] = (), outputs: Sequence[str] = (),
    sizes: tuple[float, float] = (10.0, 8.0),
) -> Layout:  # fmt: skip
    """Places of nodes, labels and edges. sizes: of the letters of nodes and labels, in points. ValueError: a cycle."""
    rank = ranks(names, edges, inputs, outputs)
    items = [_Item(n, "node", 2 * rank[n], text_width(_plain(n), sizes[0]) + 0.2, NODE_HEIGHT, [], []) for n in names]
    chains = _chains(items, {name: k for k, name in enumerate(names)}, edges, sizes[1])
    columns: list[list[int]] = [[] for _ in range(1 + max((i.column for i in items), default=0))]
    for k, item in enumerate(items):
        columns[item.column].append(k)
    _order(items, columns)
    _heights(items, columns)
    return _placed(items, columns, chains)


def _plain(name: str) -> str:
    return name.replace("_", "").replace("{", "").replace("}", "")


def _chains(items: list[_Item], index: dict[str, int], edges: Sequence[Edge], size: float) -> list[list[int]]:
    """Edge -> the items on its way, its ends included; appends labels and lanes to ``items``.

    The label of a long edge goes to that column between nodes that has the fewest, near the edge's middle.
    """
    labels: dict[int, int] = {}
    spot: dict[int, int] = {}
    spans = [(items[index[a]].column, items[index[b]].column) for a, b, _ in edges]
    for number in sorted(range(len(edges)), key=lambda n: spans[n][1] - spans[n][0]):
        first, last = spans[number]
        if edges[number][2]:
            middle = (first + last) / 2
            free = range(first + 1, last, 2)
            spot[number] = min(free, key=lambda c: (labels.get(c, 0), abs(c - middle), c))
            labels[spot[number]] = labels.get(spot[number], 0) + 1
    chains = []
    for number, (a, b, label) in enumerate(edges):
        chain = [index[a]]
        for column in range(spans[number][0] + 1, spans[number][1]):
            if column == spot.get(number):
                items.append(_Item(label or "", "label", column, text_width(label or "", size), LABEL_HEIGHT, [], []))
            elif column % 2 and not labels.get(column):
                continue  # nothing stands there: the curve goes on
            else:
                items.append(_Item("", "lane", column, 0.0, LANE, [], []))
            chain.append(len(items) - 1)
        chain.append(index[b])
        for one, other in pairwise(chain):
            items[one].after.append(other)
            items[other].before.append(one)
        chains.append(chain)
    return chains


def _order(items: list[_Item], columns: list[list[int]]) -> None:
    """Sort every column so that few curves cross: sweeps of barycentres, then swaps of neighbours."""
    columns[:] = [column for column in columns if column]
    place = {k: float(p) for column in columns for p, k in enumerate(column)}
    best, fewest = [list(c) for c in columns], _crossings(items, columns)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for column in columns if forward else reversed(columns):
            for k in column:
                near = items[k].before if forward else items[k].after
                if near:
                    place[k] = sum(place[n] for n in near) / len(near)
            column.sort(key=lambda k: place[k])
            place.update({k: float(p) - (len(column) - 1) / 2 for p, k in enumerate(column)})
        found = _crossings(items, columns)
        if found < fewest:
            best, fewest = [list(c) for c in columns], found
        if not fewest:
            break
    columns[:] = best
    if fewest:
        _swap(items, columns)


def _crossings(items: list[_Item], columns: list[list[int]]) -> int:
    """Pairs of curves that cross."""
    place = {k: p for column in columns for p, k in enumerate(column)}
    total = 0
    for column in columns:
        lines = [(place[k], place[n]) for k in column for n in items[k].after]
        total += sum(
            (a - c) * (b - d) < 0 for i, (a, b) in enumerate(lines) for c, d in lines[:i]
        )  # an edge's items stand in neighbouring columns
    return total


def _swap(items: list[_Item], columns: list[list[int]]) -> None:
    """Exchange neighbours in a column while that takes crossings away."""
    place = {k: p for column in columns for p, k in enumerate(column)}

    def crossed(upper: int, lower: int) -> int:
        """Crossings of the curves of two neighbours, the first above."""
        return sum(
            place[m] > place[n]
            for side in ("before", "after")
            for m in getattr(items[upper], side)
            for n in getattr(items[lower], side)
        )

    improved, rounds = True, 0
    while improved and rounds < 20:
        improved, rounds = False, rounds + 1
        for column in columns:
            for p in range(len(column) - 1):
                upper, lower = column[p], column[p + 1]
                if crossed(lower, upper) < crossed(upper, lower):
                    column[p], column[p + 1] = lower, upper
                    place[upper], place[lower] = p + 1, p
                    improved = True


def _heights(items: list[_Item], columns: list[list[int]]) -> None:
    """Fit y (downwards) of every item to its neighbours', boxes of a column in order and apart."""
    for column in columns:
        for p, k in enumerate(column):
            items[k].y = (p - (len(column) - 1) / 2) * 0.3
    weigh = {"node": 1.0, "label": 2.0, "lane": 4.0}
    near = [[(n, weigh[items[n].kind]) for n in (*item.before, *item.after)] for item in items]
    total = [sum(w for _, w in pulls) for pulls in near]
    weight = [weigh[item.kind] * max(1, len(pulls)) for item, pulls in zip(items, near)]
    y = [item.y for item in items]
    stacks = []
    for column in columns:
        offsets = [0.0]
        for one, other in pairwise(column):
            offsets.append(offsets[-1] + (items[one].height + items[other].height) / 2 + BETWEEN)
        stacks.append((column, offsets, [weight[k] for k in column]))
    for sweep in range(14):
        for column, offsets, heavy in stacks if sweep % 2 == 0 else reversed(stacks):
            wish = [sum([y[n] * w for n, w in near[k]]) / total[k] if near[k] else y[k] for k in column]
            fitted = _isotonic([w - o for w, o in zip(wish, offsets)], heavy)
            for k, value, offset in zip(column, fitted, offsets):
                y[k] = value + offset
    for item, height in zip(items, y):
        item.y = height


def _isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nearest sequence that never falls, by weighted squares (pool adjacent violators)."""
    pools: list[list[float]] = []  # mean, weight, members
    for value, weight in zip(values, weights):
        pools.append([value, weight, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            mean, heavy, count = pools.pop()
            total = pools[-1][1] + heavy
            pools[-1] = [(pools[-1][0] * pools[-1][1] + mean * heavy) / total, total, pools[-1][2] + count]
    return [mean for mean, _, count in pools for _ in range(int(count))]


def _placed(items: list[_Item], columns: list[list[int]], chains: list[list[int]]) -> Layout:
    """Columns beside each other, y upwards from 0, and the edges' curves."""
    if not items:
        return Layout({}, {}, [], 0.0, 0.0)
    top = min(i.y - i.height / 2 for i in items)
    height = max(i.y + i.height / 2 for i in items) - top
    boxes: dict[int, Box] = {}
    x = 0.0
    for number, column in enumerate(columns):
        climbs = [abs(items[k].y - items[n].y) for k in column for n in items[k].before]
        x += (GAP + 0.22 * max(0.0, max(climbs, default=0.0) - 0.6)) if number else 0.0
        width = max(items[k].width for k in column)
        for k in column:
            item = items[k]
            wide = width if item.kind == "lane" else item.width
            boxes[k] = Box(item.text, item.kind, x + width / 2, height - (item.y - top), wide, item.height)
        x += width
    spans = {k: (min(boxes[m].left for m in c), max(boxes[m].right for m in c)) for c in columns for k in c}
    ports = _ports(boxes, chains)
    curves = []
    for number, chain in enumerate(chains):
        line = []
        for one, other in pairwise(chain):
            start = (spans[one][1], ports.get((number, one, "out"), boxes[one].y))
            line.append((start, (spans[other][0], ports.get((number, other, "in"), boxes[other].y))))
        curves.append(line)
    nodes = {box.text: box for box in boxes.values() if box.kind == "node"}
    labels = {number: boxes[k] for number, chain in enumerate(chains) for k in chain if boxes[k].kind == "label"}
    return Layout(nodes, labels, curves, x, height)


def _ports(boxes: dict[int, Box], chains: list[list[int]]) -> dict[tuple[int, int, str], float]:
    """Where on a node's side each edge leaves or arrives: spread over it, in the order of what lies beyond."""
    sides: dict[tuple[int, str], list[tuple[float, int]]] = {}
    for number, chain in enumerate(chains):
        sides.setdefault((chain[0], "out"), []).append((boxes[chain[1]].y, number))
        sides.setdefault((chain[-1], "in"), []).append((boxes[chain[-2]].y, number))
    found = {}
    for (k, side), ends in sides.items():
        spread = min(0.11, 0.7 * boxes[k].height / max(1, len(ends) - 1))
        for p, (_, number) in enumerate(sorted(ends)):
            found[(number, k, side)] = boxes[k].y + (p - (len(ends) - 1) / 2) * spread
    return found
