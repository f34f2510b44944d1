"""What a NAS-Bench-201 cell is as a graph: whether its output depends on its input, and one text for equal cells.

Two of the 15,625 operation lists can be one network: an edge of ``skip_connect`` is no operation, an edge of ``none``
carries nothing, and a node sums its edges in any order (Dong & Yang 2020, section 2.1: 6,466 distinct structures).
"""

from __future__ import annotations

from collections.abc import Sequence

from common.data.nasbench201 import EDGES, OPERATIONS

NODES = 4


def connected(operations: Sequence[int]) -> bool:
    """Whether a path without ``none`` leads from node 0 to node 3; without one the logits do not see the image."""
    reached = {0}
    for (node, source), op in zip(EDGES, operations):
        if source in reached and OPERATIONS[op] != "none":
            reached.add(node)
    return NODES - 1 in reached


def canonical(operations: Sequence[int], fold_none: bool = True) -> str:
    """A text of node 3 that equal cells share: sources in brackets, ``@`` the operation, terms in sorted order.

    ``skip_connect`` passes its source on. With ``fold_none`` an edge that is ``none``, or whose source is nothing at
    all, is ``#``; as in the benchmark's own code a sum of such edges (``#+#``) is not folded further.
    """
    nodes = ["0"]
    for node in range(1, NODES):
        terms = []
        for (to, source), op in zip(EDGES, operations):
            if to != node:
                continue
            if fold_none and (OPERATIONS[op] == "none" or nodes[source] == "#"):
                terms.append("#")
            elif OPERATIONS[op] == "skip_connect":
                terms.append(nodes[source])
            else:
                terms.append(f"({nodes[source]})@{OPERATIONS[op]}")
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def incoming(operations: Sequence[int]) -> list[list[tuple[str, int]]] | None:
    """Per node the (operation, source) pairs without ``none``; None when a node is left without an edge."""
    found: list[list[tuple[str, int]]] = [[] for _ in range(1, NODES)]
    for (node, source), op in zip(EDGES, operations):
        if OPERATIONS[op] != "none":
            found[node - 1].append((OPERATIONS[op], source))
    return found if all(found) else None
