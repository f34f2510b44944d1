"""Counts of the networks (parameters as in the paper, without the auxiliary head; multiply-adds), pictures of cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from common.data.nasbench201 import drawn_edges, to_operations, to_string
from common.errors import UserError
from common.run.files import make_folder
from common.spaces import drawing
from common.spaces.architecture import Record, read_architecture, recorded
from common.spaces.counting import macs, parameters
from common.spaces.darts.genotype import INPUTS, Genotype, drawn_pairs
from common.spaces.darts.plan import counts
from common.spaces.nasbench201.cell import Cell201, cell, is_cell_text
from common.spaces.nasbench201.graph import canonical, connected
from common.spaces.pasted import inside, is_pasted
from papers.nsas.nasbench201.supernet import build_nb201
from papers.nsas.networks.architectures import (
    CLASSES,
    CNN,
    IMAGE_SIZE,
    NB201,
    load_genotype,
    size_of,
)
from papers.nsas.recurrent.architecture import RECURRENT, Recurrent, load_cell, recurrent_of
from papers.nsas.recurrent.model import DerivedCell, Dropouts, LanguageModel
from papers.nsas.settings import Describe, Draw
from papers.nsas.use import architecture

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

NB201_INPUT = {"cifar10": (10, 32), "cifar100": (100, 32), "imagenet16-120": (120, 16)}  # classes, pixels
RECURRENT_INPUTS = ("x_{t}", "h_{t-1}")


def describe(settings: Describe, options: RunOptions | None = None) -> dict[str, Any]:
    """Counts of a published name, an architecture file of any of the three spaces, or own weights. Raises UserError."""
    return described(settings.arch, settings.dataset)


def described(name: str, dataset: str = "", channels: int = 0, layers: int = 0) -> dict[str, Any]:
    """The same at another size. dataset: default the file's own, else cifar10 ("ptb" for recurrent cells)."""
    name = inside(name)
    file, record = recorded(name, "nsas")
    space = file.get("space", "")
    if name.startswith("PTB_") or dataset == "ptb" or space == "darts-rnn":
        if not space:
            return describe_recurrent(name.removeprefix("PTB_"))
        found = recurrent_of(file["architecture"], name)
        return describe_recurrent(name, record.classes or 10_000, record.channels or 850, found, record.dataset)
    if space == "nasbench201":
        own = record.dataset if record.dataset in NB201_INPUT else "cifar10"
        return describe_nb201("".join(map(str, to_operations(file["architecture"]))), dataset or own)
    if name not in CNN and is_pasted(name):
        pasted = architecture(name)
        if isinstance(pasted, Recurrent):
            return describe_recurrent("pasted" if "(" in name else name, found=pasted)
        if isinstance(pasted, Cell201):
            return describe_nb201(pasted.digits, dataset or "cifar10")
    if name in NB201 or (len(name) == 6 and name.isdigit()):
        return describe_nb201(NB201.get(name, name), dataset or "cifar10")
    genotype = Genotype.from_dict(file["architecture"], name) if space == "darts" else load_genotype(name)
    return describe_cnn(name, genotype, record, dataset, channels, layers)


def describe_cnn(
    name: str, genotype: Genotype, record: Record, dataset: str, channels: int, layers: int
) -> dict[str, Any]:
    """A derived CNN; what is not given is as in the file's ``record``, else the published size."""
    used = dataset or record.dataset or "cifar10"
    own = not dataset or dataset == record.dataset  # the record's classes and pixels hold for its own set only
    classes = (record.classes if own else 0) or CLASSES.get(used, 0)
    pixels = (record.pixels if own else 0) or IMAGE_SIZE.get(used, 0)
    if not classes or not pixels:
        raise UserError(f"no counts for data set {used!r}; use one of {', '.join(CLASSES)} or ptb")
    imagenet, auxiliary = pixels >= 128, 32 <= pixels <= 40 or pixels == 224
    width, depth = size_of("imagenet" if imagenet else used, name, channels, layers)
    width, depth = channels or record.channels or width, layers or record.layers or depth
    found = counts(genotype, imagenet, classes, width, depth, pixels, auxiliary)
    del found["conv_macs"]
    return {
        "name": name, "dataset": used, "classes": classes, "channels": width, "layers": depth, **found,
        "macs_published": found["macs"], "architecture": genotype.as_dict(),
    }  # fmt: skip


def describe_recurrent(
    name: str, words: int = 10_000, width: int = 850, found: Recurrent | None = None, text: str = ""
) -> dict[str, Any]:
    """The recurrent network, on PTB unless a file says otherwise."""
    cell = found or RECURRENT.get(name) or load_cell(name)
    with torch.device("meta"):
        model = LanguageModel(words, width, DerivedCell(width, cell.recurrent, cell.concat), Dropouts())
    count = parameters(model, exclude=())
    per_word = 4 * width * width + 8 * 2 * width * width + words * width
    return {
        "name": name, "dataset": text or "ptb", "words": words, "units": width,
        "parameters": count, "parameters_with_auxiliary": count,
        "macs": per_word, "macs_published": per_word,
        "architecture": {"recurrent": [list(p) for p in cell.recurrent], "concat": list(cell.concat)},
    }  # fmt: skip


def describe_nb201(code: str, dataset: str = "cifar10") -> dict[str, Any]:
    """A NAS-Bench-201 cell in its macro network (C = 16, N = 5): counts, and what the cell is as a graph."""
    if dataset not in NB201_INPUT:
        raise UserError(f"no counts of NAS-Bench-201 cells for {dataset!r}; use one of {', '.join(NB201_INPUT)}")
    classes, size = NB201_INPUT[dataset]
    with torch.device("meta"):
        model = build_nb201(code, classes=classes)
    operations = [int(digit) for digit in code]
    count, multiply_adds = parameters(model), macs(model, (3, size, size))
    return {
        "name": code, "dataset": dataset, "parameters": count, "parameters_with_auxiliary": count,
        "macs": multiply_adds, "macs_published": multiply_adds, "architecture": to_string(operations),
        "connected": connected(operations), "canonical": canonical(operations),
    }  # fmt: skip


def draw(settings: Draw, options: RunOptions) -> dict[str, Any]:
    """One picture a cell in the authors' style, and its DOT text beside it. Raises UserError."""
    make_folder(options.folder)
    written = []
    for name, (edges, inputs) in graphs(settings.arch, settings.recurrent).items():
        for kind in dict.fromkeys((settings.format, "dot")):
            path = options.folder / f"{name}.{kind}"
            drawing.draw_cells(edges, path, inputs=inputs)
            written.append(str(path))
    return {"files": written}


def graphs(arch: str, recurrent: bool = False) -> dict[str, tuple[list[drawing.Edge], tuple[str, ...]]]:
    """File name -> (labelled edges, input nodes): both cells of a CNN, a recurrent cell, or one of NAS-Bench-201."""
    if recurrent:
        return {"recurrent": (recurrent_edges(load_cell(arch)), RECURRENT_INPUTS)}
    arch = inside(arch)
    text = str(cell(arch)) if is_cell_text(arch) else None
    if arch.endswith(".json") and not is_pasted(arch):
        document = read_architecture(Path(arch))
        text = document["architecture"] if document["space"] == "nasbench201" else None
    if text is not None:
        return {"cell": (drawn_edges(text), ())}
    genotype = load_genotype(arch)
    return {"normal": (drawn_pairs(genotype.normal), INPUTS), "reduction": (drawn_pairs(genotype.reduce), INPUTS)}


def recurrent_edges(cell: Recurrent) -> list[drawing.Edge]:
    """x_{t} and h_{t-1} into node 0, then one labelled edge a node, the nodes into h_{t}."""
    edges: list[drawing.Edge] = [(source, "0", None) for source in RECURRENT_INPUTS]
    edges += [(str(source), str(node), function) for node, (function, source) in enumerate(cell.recurrent, 1)]
    return edges + [(str(node), "h_{t}", None) for node in range(1, len(cell.recurrent) + 1)]
