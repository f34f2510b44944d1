"""Counts of the networks: parameters (the paper's, without the auxiliary head), multiply-adds, and the cell."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from common.cli.errors import UserError
from common.data.nasbench201 import to_operations, to_string
from common.spaces.architecture import read_architecture
from common.spaces.counting import macs, parameters
from common.spaces.nasbench201.graph import canonical, connected
from common.weights.read import read_metadata
from papers.nsas.network.architectures import NB201
from papers.nsas.network.networks import (
    CLASSES,
    IMAGE_SIZE,
    build_derived,
    build_nb201,
    cnn_of,
    load_cnn,
    size_of,
)
from papers.nsas.recurrent.architecture import RECURRENT, Recurrent, load_cell, recurrent_of
from papers.nsas.recurrent.model import Cell, Dropouts, LanguageModel

NB201_INPUT = {"cifar10": (10, 32), "cifar100": (100, 32), "imagenet16-120": (120, 16)}  # classes, pixels


class Given(NamedTuple):
    """What a file records beside its architecture; 0 and "" where it says nothing."""

    dataset: str = ""
    classes: int = 0
    pixels: int = 0
    channels: int = 0
    layers: int = 0


def recorded(name: str) -> tuple[dict, Given]:
    """(space and architecture, record) of an architecture file, or of our own weights."""
    if name.endswith(".json"):
        file = read_architecture(Path(name))
        origin = file.get("origin") or {}
        record = Given(str(origin.get("dataset", "")), int(origin.get("classes", 0)), int(origin.get("pixels", 0)))
        return file, record
    if name.endswith(".safetensors"):
        said = read_metadata(name)
        if "architecture" not in said:
            raise UserError(f"{name} does not say its architecture; describe the architecture's name or file instead")
        numbers = (int(said.get(key, 0)) for key in ("classes", "pixels", "width", "depth"))
        return dict(said), Given(str(said.get("dataset", "")), *numbers)
    return {"space": ""}, Given()


def describe(name: str, dataset: str | None = None, channels: int = 0, layers: int = 0) -> dict:
    """Counts of ``name``: a published name, an architecture file of any of the three spaces, or own weights.

    dataset: default the file's own, else cifar10 ("ptb" for recurrent).
    """
    file, record = recorded(name)
    if name.startswith("PTB_") or dataset == "ptb" or file["space"] == "darts-rnn":
        if file["space"]:
            found = recurrent_of(file["architecture"], name)
            return describe_recurrent(name, record.classes or 10_000, record.channels or 850, found, record.dataset)
        return describe_recurrent(name.removeprefix("PTB_"))
    if file["space"] == "nasbench201":
        own = record.dataset if record.dataset in NB201_INPUT else "cifar10"
        return describe_nb201("".join(map(str, to_operations(file["architecture"]))), dataset or own)
    if name in NB201 or (len(name) == 6 and name.isdigit()):
        return describe_nb201(NB201.get(name, name), dataset or "cifar10")
    used = dataset or record.dataset or "cifar10"
    own = not dataset or dataset == record.dataset  # the record's classes and pixels hold for its own set only
    classes = (record.classes if own else 0) or CLASSES.get(used, 0)
    size = (record.pixels if own else 0) or IMAGE_SIZE.get(used, 0)
    if not classes or not size:
        raise UserError(f"no counts for data set {used!r}; use one of {', '.join(CLASSES)} or ptb")
    architecture = cnn_of(file["architecture"], name) if file["space"] == "darts" else load_cnn(name)
    form = "imagenet" if size >= 128 else "cifar"
    width, depth = size_of("imagenet" if form == "imagenet" else used, name, channels, layers)
    width, depth = channels or record.channels or width, layers or record.layers or depth
    with torch.device("meta"):  # only shapes are counted
        model = build_derived(architecture, form, classes, width, depth, auxiliary=32 <= size <= 40 or size == 224)
    with_auxiliary = sum(p.numel() for p in model.parameters())
    multiply_adds = macs(model, (3, size, size))
    return {
        "name": name, "dataset": used, "classes": classes, "channels": width, "layers": depth,
        "parameters": parameters(model), "parameters_with_auxiliary": with_auxiliary,
        "macs": multiply_adds, "macs_published": multiply_adds,
        "architecture": architecture.as_names(),
    }  # fmt: skip


def describe_recurrent(
    name: str, words: int = 10_000, width: int = 850, found: Recurrent | None = None, text: str = ""
) -> dict:
    """The recurrent network, on PTB unless a file says otherwise."""
    cell = found or RECURRENT.get(name) or load_cell(name)
    with torch.device("meta"):
        model = LanguageModel(words, width, Cell(width, cell.recurrent, cell.concat), Dropouts())
    count = sum(p.numel() for p in model.parameters())
    per_word = 4 * width * width + 8 * 2 * width * width + words * width
    return {
        "name": name, "dataset": text or "ptb", "words": words, "units": width,
        "parameters": count, "parameters_with_auxiliary": count,
        "macs": per_word, "macs_published": per_word,
        "architecture": {"recurrent": [list(p) for p in cell.recurrent], "concat": list(cell.concat)},
    }  # fmt: skip


def describe_nb201(code: str, dataset: str = "cifar10") -> dict:
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


def count(name: str, dataset: str, channels: int, layers: int, key: str) -> int:
    """One number of :func:`describe` at another size (used by the claims)."""
    return _described(name, dataset, int(channels), int(layers))[key]


@cache
def _described(name: str, dataset: str, channels: int, layers: int) -> dict:
    return describe(name, dataset, channels, layers)


def supernet_parameters(space: str, channels: int, layers: int) -> int:
    """Parameters of a search network: darts (C, L), nb201 (C, N) or ptb (H, unused)."""
    from papers.nsas.network.networks import build_nb201_supernet, build_supernet
    from papers.nsas.recurrent.supernet import SearchCell

    with torch.device("meta"):
        if space == "darts":
            model: torch.nn.Module = build_supernet(int(channels), 10, int(layers))
        elif space == "nb201":
            model = build_nb201_supernet(int(channels), int(layers), 10)
        else:
            model = LanguageModel(10_000, int(channels), SearchCell(int(channels)), Dropouts())
    return sum(p.numel() for p in model.parameters())


def benchmark_accuracy(name: str) -> float:
    """CIFAR-10 test accuracy (200 epochs) of a stored cell in the benchmark's release 1.0, to which the notebooks
    belong. Raises UserError where the data root lacks that release: the tables of v1.1 have other means.
    """
    from common.data.nasbench201 import release_1_0

    return release_1_0()[NB201[name]]


def run(settings, options) -> dict:
    """The ``describe`` verb."""
    return describe(settings.arch, settings.dataset or None)
