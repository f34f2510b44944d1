"""Counts of the networks (parameters as in the paper, without the auxiliary head; multiply-adds), pictures of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from common.data.nasbench201 import to_operations, to_string
from common.errors import UserError
from common.spaces.architecture import Record, recorded
from common.spaces.cells import cells_of
from common.spaces.counting import macs, parameters
from common.spaces.darts.counts import counts
from common.spaces.darts.genotype import Genotype
from common.spaces.drawing import Graph, draw_cells, name_of
from common.spaces.layered import Edge
from common.spaces.nasbench201.cell import Cell201
from common.spaces.nasbench201.graph import canonical, connected
from common.spaces.pasted import inside, is_pasted
from common.spaces.sizes import sized
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
    return described(settings.arch, settings.dataset, settings.channels, settings.layers, settings.classes)


def described(name: str, dataset: str = "", channels: int = 0, layers: int = 0, classes: int = 0) -> dict[str, Any]:
    """The same at another size. dataset: default the file's own, else cifar10 ("ptb" for recurrent cells)."""
    name = inside(name)
    file, record = recorded(name, "nsas")
    record = sized(record, dataset, classes, channels, layers)
    space = file.get("space", "")
    if name.startswith("PTB_") or dataset == "ptb" or space == "darts-rnn":
        if layers:
            raise UserError(f"--layers {layers}: a recurrent network has one cell; leave the flag out")
        if not space:
            return describe_recurrent(name.removeprefix("PTB_"), classes or 10_000, channels or 850)
        found = recurrent_of(file["architecture"], name)
        return describe_recurrent(name, record.classes or 10_000, record.channels or 850, found, record.dataset)
    if space == "nasbench201":
        own = record.dataset if record.dataset in NB201_INPUT or record.pixels else "cifar10"
        record = record._replace(dataset=dataset or own)
        return describe_nb201("".join(map(str, to_operations(file["architecture"]))), record)
    if name not in CNN and is_pasted(name):
        pasted = architecture(name)
        if isinstance(pasted, Recurrent):
            shown = "pasted" if "(" in name else name
            return describe_recurrent(shown, classes or 10_000, channels or 850, pasted)
        if isinstance(pasted, Cell201):
            return describe_nb201(pasted.digits, record._replace(dataset=dataset or "cifar10"))
    if name in NB201 or (len(name) == 6 and name.isdigit()):
        return describe_nb201(NB201.get(name, name), record._replace(dataset=dataset or "cifar10"))
    genotype = Genotype.from_dict(file["architecture"], name) if space == "darts" else load_genotype(name)
    return describe_cnn(name, genotype, record, dataset, classes)


def describe_cnn(name: str, genotype: Genotype, record: Record, dataset: str, asked: int = 0) -> dict[str, Any]:
    """A derived CNN; what is not given is as in the file's ``record``, else the published size. asked: classes."""
    used = dataset or record.dataset or "cifar10"
    own = not dataset or dataset == record.dataset  # the record's classes and pixels hold for its own set only
    classes = asked or (record.classes if own else 0) or CLASSES.get(used, 0)
    pixels = (record.pixels if own else 0) or IMAGE_SIZE.get(used, 0)
    if not classes or not pixels:
        raise UserError(f"no counts for data set {used!r}; use one of {', '.join(CLASSES)} or ptb")
    imagenet, auxiliary = pixels >= 128, 32 <= pixels <= 40 or pixels == 224
    width, depth = size_of("imagenet" if imagenet else used, name, record.channels, record.layers)
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


def describe_nb201(code: str, said: Record) -> dict[str, Any]:
    """A NAS-Bench-201 cell in its macro network (C = 16, N = 5 unless said otherwise): counts, and what the cell is as
    a graph.
    """
    dataset = said.dataset
    if dataset not in NB201_INPUT and not said.pixels:
        raise UserError(f"no counts of NAS-Bench-201 cells for {dataset!r}; use one of {', '.join(NB201_INPUT)}")
    known, side = NB201_INPUT.get(dataset, (0, 0))
    classes, size = said.classes or known, said.pixels or side
    with torch.device("meta"):
        model = build_nb201(code, said.channels or 16, said.layers or 5, classes)
    operations = [int(digit) for digit in code]
    count, multiply_adds = parameters(model), macs(model, (3, size, size))
    return {
        "name": code, "dataset": dataset, "parameters": count, "parameters_with_auxiliary": count,
        "macs": multiply_adds, "macs_published": multiply_adds, "architecture": to_string(operations),
        "connected": connected(operations), "canonical": canonical(operations),
    }  # fmt: skip


def draw(settings: Draw, options: RunOptions) -> dict[str, Any]:
    """One picture a cell: <out>/normal, reduction, recurrent, or cell of NAS-Bench-201. Raises UserError."""
    return draw_cells(graphs(settings.arch, settings.recurrent), options.folder, settings.format)


def graphs(arch: str, recurrent: bool = False) -> dict[str, Graph]:
    """File name -> graph. recurrent: of the two cells of a published name the recurrent one; a file says what it is."""
    word, found = inside(arch), None
    document = recorded(word, "nsas")[0]
    if document.get("space") == "darts-rnn":
        found = recurrent_of(document["architecture"], word)
    elif recurrent:
        found = load_cell(word)
    elif word not in CNN and is_pasted(word) and isinstance(pasted := architecture(word), Recurrent):
        found = pasted
    if found is not None:
        title = f"{name_of(arch)}: recurrent cell"
        return {"recurrent": Graph(title, tuple(recurrent_edges(found)), RECURRENT_INPUTS, ("h_{t}",))}
    return cells_of(arch, load_genotype)


def recurrent_edges(cell: Recurrent) -> list[Edge]:
    """x_{t} and h_{t-1} into node 0, then one labelled edge a node, the nodes into h_{t}."""
    edges: list[Edge] = [(source, "0", None) for source in RECURRENT_INPUTS]
    edges += [(str(source), str(node), function) for node, (function, source) in enumerate(cell.recurrent, 1)]
    return edges + [(str(node), "h_{t}", None) for node in cell.concat]
