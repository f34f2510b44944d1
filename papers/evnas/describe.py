"""Counts of a network, and drawings of its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from common.data import names
from common.data.nasbench201 import DATASETS
from common.errors import UserError
from common.spaces.architecture import Record, recorded
from common.spaces.cells import cells_of
from common.spaces.counting import macs, parameters
from common.spaces.darts import supernet as darts_supernet
from common.spaces.darts.counts import counts
from common.spaces.darts.genotype import Genotype
from common.spaces.drawing import draw_cells
from common.spaces.nasbench201 import network as nasbench201
from common.spaces.nasbench201.cell import Cell201, cell, is_cell_text
from common.spaces.nasbench201.graph import connected
from common.spaces.nasbench201.plain import PlainNetwork
from common.spaces.pasted import inside
from common.spaces.sizes import sized
from common.words import hint
from papers.evnas.networks.architectures import CLASSES, load_genotype
from papers.evnas.settings import Describe, Draw

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def describe(settings: Describe, options: RunOptions | None = None) -> dict[str, Any]:
    """Counts for a published name, an architecture file, or weights of one's own (at their width and depth).

    ``parameters`` leaves out the auxiliary head, as the paper does; ``macs`` are convolutions and classifier;
    ``macs_published`` is the paper's column: convolutions alone, at the set's input size. Raises UserError.
    """
    name = inside(settings.arch)
    file, said = recorded(name, "evnas")
    said = sized(said, settings.dataset, settings.classes, settings.channels, settings.layers)
    if is_cell_text(name) or file.get("space") == "nasbench201":
        used = settings.dataset or said.dataset
        return describe_cell(cell(file.get("architecture") or name), name, said._replace(dataset=used))
    is_weights = name.endswith(".safetensors")
    genotype = Genotype.from_dict(file["architecture"], name) if is_weights else load_genotype(name)
    used = settings.dataset or said.dataset or "cifar10"
    own = used == said.dataset  # the file's classes and pixels hold for its own set only
    classes = settings.classes or (said.classes if own else 0) or CLASSES.get(used, 0)
    imagenet = used == "imagenet" or (own and said.imagenet)
    pixels = (said.pixels if own else 0) or (224 if imagenet else 32)
    if not classes:
        raise UserError(f"unknown data set {used!r}{hint(used, CLASSES)}; describe knows {', '.join(CLASSES)}")
    width, depth = (48, 14) if imagenet else (36, 20)
    found = counts(genotype, imagenet, classes, said.channels or width, said.layers or depth, pixels)
    published = found.pop("conv_macs")
    architecture = genotype.as_dict()
    return {"name": name, "dataset": used, "classes": classes, **found, "macs_published": published,
            "architecture": architecture}  # fmt: skip


def describe_cell(found: Cell201, name: str, said: Record) -> dict[str, Any]:
    """The benchmark's network of a cell (C = 16, N = 5 unless said otherwise), counted; on CIFAR-10 where neither the
    benchmark nor ``said`` knows the set.
    """
    known = said.dataset in DATASETS or said.pixels
    used = said.dataset if known else "cifar10"
    classes = said.classes or names.CLASSES[used]
    pixels = said.pixels or (16 if used == "imagenet16-120" else 32)
    with torch.device("meta"):
        network = PlainNetwork(found.operations, said.channels or 16, said.layers or 5, classes)
    count, multiply_adds = parameters(network), macs(network, (3, pixels, pixels))
    return {
        "name": name, "dataset": used, "classes": classes,
        "parameters": count, "parameters_with_auxiliary": count,
        "macs": multiply_adds, "macs_published": multiply_adds, "architecture": str(found),
        "connected": connected(found.operations),
    }  # fmt: skip


def supernet_parameters(space: str, classes: int = 10) -> int:
    """Parameters of the search network with 10 classes: darts 1,930,618; nb201 1,686,106 (without the alphas)."""
    if space == "darts":
        return parameters(darts_supernet.Supernet(classes=classes))
    return parameters(nasbench201.Supernet(classes=classes), exclude=("arch_parameters",))


def space_size(space: str) -> int:
    """Number of genotypes: (180 * 7^8)^2 in the DARTS space, 5^6 cells in NAS-Bench-201."""
    return (180 * 7**8) ** 2 if space == "darts" else 5**6


def draw(settings: Draw, options: RunOptions) -> dict[str, Any]:
    """One picture a cell: <out>/normal, reduction, or cell of NAS-Bench-201. Raises UserError."""
    return draw_cells(cells_of(settings.arch, load_genotype), options.folder, settings.format)
