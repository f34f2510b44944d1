"""The cells of a DARTS or NAS-Bench-201 architecture as graphs to draw: what EvNAS and NSAS share."""

from __future__ import annotations

from collections.abc import Callable

from common.data.nasbench201 import drawn_edges
from common.spaces.architecture import recorded
from common.spaces.darts.genotype import INPUTS, Genotype, drawn_pairs
from common.spaces.drawing import Graph, name_of
from common.spaces.nasbench201.cell import cell, is_cell_text
from common.spaces.pasted import inside

ZERO = ("none",)


def darts_cells(genotype: Genotype, name: str) -> dict[str, Graph]:
    """Both cells of a genotype, "normal" and "reduction"."""
    cells = {
        "normal": (genotype.normal, genotype.normal_concat), "reduction": (genotype.reduce, genotype.reduce_concat)
    }  # fmt: skip
    return {
        kind: Graph(f"{name}: {kind} cell", tuple(drawn_pairs(pairs, concat)), INPUTS, ("c_{k}",), ZERO)
        for kind, (pairs, concat) in cells.items()
    }


def nasbench201_cell(text: str, name: str) -> dict[str, Graph]:
    """The one cell of an architecture string. Its ``none`` edges do not exist, as in the benchmark."""
    title = f"{name}: NAS-Bench-201 cell"
    return {"cell": Graph(title, tuple(drawn_edges(text)), ("0",), ("3",))}


def cells_of(arch: str, load: Callable[[str], Genotype]) -> dict[str, Graph]:
    """File name -> graph of an architecture of either space: a published name, pasted text, a file, a run's folder, or
    weights that a training wrote. load: reads the paper's genotypes. Raises UserError.
    """
    name, arch = name_of(arch), inside(arch)
    if is_cell_text(arch):
        return nasbench201_cell(str(cell(arch)), name)
    document, _ = recorded(arch)
    if document.get("space") == "nasbench201":
        return nasbench201_cell(str(cell(document["architecture"], arch)), name)
    weights = arch.endswith(".safetensors")
    return darts_cells(Genotype.from_dict(document["architecture"], arch) if weights else load(arch), name)
