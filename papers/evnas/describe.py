"""Counts of a network, and drawings of its cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import drawing
from common.architecture import read_architecture
from common.counting import conv_macs, macs, parameters
from common.data.nasbench201 import drawn_edges
from common.errors import UserError
from common.records import make_folder
from common.spaces import darts_supernet, nasbench201
from papers.evnas.networks import CLASSES, build, load_genotype
from papers.evnas.settings_train import DescribeSettings, DrawSettings


def describe(name: str, dataset: str | None = None) -> dict[str, Any]:
    """Counts for a published name or an architecture file.

    ``parameters`` leaves out the auxiliary head, as the paper does; ``macs`` are convolutions and classifier;
    ``macs_published`` is the paper's column: convolutions alone, at the set's input size. Raises UserError.
    """
    dataset = dataset or "cifar10"
    if dataset not in CLASSES:
        raise UserError(f"unknown data set {dataset!r}; describe knows {', '.join(CLASSES)}")
    genotype = load_genotype(name)
    network = build(genotype, dataset == "imagenet", CLASSES[dataset], auxiliary=True)
    shape = (3, 224, 224) if dataset == "imagenet" else (3, 32, 32)
    return {
        "name": name,
        "dataset": dataset,
        "parameters": parameters(network),
        "parameters_with_auxiliary": parameters(network, exclude=()),
        "macs": macs(network, shape),
        "macs_published": conv_macs(network, shape),
        "architecture": genotype.as_dict(),
    }


def supernet_parameters(space: str, classes: int = 10) -> int:
    """Parameters of the search network: S1 1,930,618; S2 1,686,106 with 10 classes (without the alphas)."""
    if space == "s1":
        return parameters(darts_supernet.Supernet(classes=classes))
    return parameters(nasbench201.Supernet(classes=classes), exclude=("arch_parameters",))


def space_size(space: str) -> int:
    """Number of genotypes: (180 * 7^8)^2 in S1, 5^6 cells in S2."""
    return (180 * 7**8) ** 2 if space == "s1" else 5**6


def run(settings: DescribeSettings, options: Any) -> dict[str, Any]:
    """The ``describe`` verb."""
    return describe(settings.arch, settings.dataset)


INPUTS = ("c_{k-2}", "c_{k-1}")


def edges_of(pairs: Any) -> list[drawing.Edge]:
    """Labelled edges of a cell in the field's drawing: c_{k-2}, c_{k-1}, nodes 0 to 3, c_{k}."""
    names = [*INPUTS, "0", "1", "2", "3"]
    edges: list[drawing.Edge] = [(names[state], str(slot // 2), op) for slot, (op, state) in enumerate(pairs)]
    return edges + [(str(node), "c_{k}", None) for node in range(4)]


def graphs(arch: str) -> dict[str, list[drawing.Edge]]:
    """File name -> edges: both cells of an S1 architecture, or the one cell of an S2 architecture file or string."""
    text = arch if arch.startswith("|") else None
    if arch.endswith(".json"):
        document = read_architecture(Path(arch))
        text = document["architecture"] if document["space"] == "nasbench201" else None
    if text is not None:
        return {"cell": drawn_edges(text)}
    genotype = load_genotype(arch)
    return {"normal cell": edges_of(genotype.normal), "reduction cell": edges_of(genotype.reduce)}


def draw(settings: DrawSettings, options: Any) -> dict[str, Any]:
    """The ``draw`` verb: one picture per cell."""
    cells, folder = graphs(settings.arch), options.folder
    make_folder(folder)
    written = []
    for title, edges in cells.items():
        path = folder / f"{title.split()[0]}.{settings.format}"
        drawing.draw_cells(edges, path, title=title, inputs=() if title == "cell" else INPUTS)
        written.append(str(path))
        print(path)
    return {"files": written}
