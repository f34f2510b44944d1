"""Counts of the networks: parameters (the paper's, without the auxiliary head), multiply-adds, and the cell."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from common.architecture import read_architecture
from common.counting import macs, parameters
from common.data.nasbench201 import to_operations, to_string
from common.errors import UserError
from common.spaces.nasbench201_graph import canonical, connected
from papers.nsas.architectures import NB201, RECURRENT
from papers.nsas.networks import (
    CLASSES,
    IMAGE_SIZE,
    build_derived,
    build_nb201,
    load_cnn,
    size_of,
)
from papers.nsas.recurrent import Cell, Dropouts, LanguageModel

NB201_INPUT = {"cifar10": (10, 32), "cifar100": (100, 32), "imagenet16-120": (120, 16)}  # classes, pixels


def describe(name: str, dataset: str | None = None, channels: int = 0, layers: int = 0) -> dict:
    """Counts of ``name`` (published name, or architecture file of any of the three spaces) for ``dataset`` (default
    cifar10; "ptb" for recurrent).
    """
    file = read_architecture(Path(name)) if name.endswith(".json") else {"space": ""}
    if name.startswith("PTB_") or dataset == "ptb" or file["space"] == "darts-rnn":
        return describe_recurrent(name.removeprefix("PTB_"))
    if file["space"] == "nasbench201":
        return describe_nb201("".join(map(str, to_operations(file["architecture"]))), dataset or "cifar10")
    if name in NB201 or (len(name) == 6 and name.isdigit()):
        return describe_nb201(NB201.get(name, name), dataset or "cifar10")
    dataset = dataset or "cifar10"
    if dataset not in CLASSES:
        raise UserError(f"no counts for data set {dataset!r}; use one of {', '.join(CLASSES)} or ptb")
    architecture = load_cnn(name)
    width, depth = size_of(dataset, name, channels, layers)
    with torch.device("meta"):  # only shapes are counted
        model = build_derived(architecture, dataset, CLASSES[dataset], width, depth, auxiliary=True)
    size = IMAGE_SIZE[dataset]
    with_auxiliary = sum(p.numel() for p in model.parameters())
    multiply_adds = macs(model, (3, size, size))
    return {
        "name": name, "dataset": dataset, "channels": width, "layers": depth,
        "parameters": parameters(model), "parameters_with_auxiliary": with_auxiliary,
        "macs": multiply_adds, "macs_published": multiply_adds,
        "architecture": architecture.as_names(),
    }  # fmt: skip


def describe_recurrent(name: str, words: int = 10_000, width: int = 850) -> dict:
    """The recurrent network on PTB."""
    from papers.nsas.train_recurrent import load_cell

    cell = RECURRENT.get(name) or load_cell(name)
    with torch.device("meta"):
        model = LanguageModel(words, width, Cell(width, cell.recurrent, cell.concat), Dropouts())
    count = sum(p.numel() for p in model.parameters())
    per_word = 4 * width * width + 8 * 2 * width * width + words * width
    return {
        "name": name, "dataset": "ptb", "units": width, "parameters": count, "parameters_with_auxiliary": count,
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
    from papers.nsas.networks import build_nb201_supernet, build_supernet
    from papers.nsas.recurrent_supernet import SearchCell

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
