"""Claims that need no training: sizes, where the schedules end, and what cells of NAS-Bench-201 reach."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from statistics import fmean, median
from typing import Any

import torch

from common.data.nasbench201 import release_1_0
from common.spaces.counting import parameters
from common.spaces.darts.train import drop_path_probability
from common.train.schedules import cosine
from papers.nsas.describe import described
from papers.nsas.method.relaxation import darts_temperature, nb201_temperature
from papers.nsas.method.schedules import shifted
from papers.nsas.nasbench201.supernet import build_nb201_supernet
from papers.nsas.networks.architectures import NB201
from papers.nsas.networks.supernet import build_supernet
from papers.nsas.recurrent.model import Dropouts, LanguageModel
from papers.nsas.recurrent.supernet import SupernetCell
from papers.nsas.train import learning_rate


def count(name: str, dataset: str, channels: int, layers: int, key: str) -> int:
    """One number of ``describe`` at another size."""
    return _described(name, dataset, int(channels), int(layers))[key]


@cache
def _described(name: str, dataset: str, channels: int, layers: int) -> dict[str, Any]:
    return described(name, dataset, channels, layers)


def supernet_parameters(space: str, channels: int, layers: int) -> int:
    """Parameters of a search network: darts (C, L), nb201 (C, N) or ptb (H, unused)."""
    with torch.device("meta"):
        if space == "darts":
            model: torch.nn.Module = build_supernet(int(channels), 10, int(layers))
        elif space == "nb201":
            model = build_nb201_supernet(int(channels), int(layers), 10)
        else:
            model = LanguageModel(10_000, int(channels), SupernetCell(int(channels)), Dropouts())
    return parameters(model, exclude=())


def benchmark_accuracy(name: str) -> float:
    """CIFAR-10 test accuracy (200 epochs) of a stored cell in the benchmark's release 1.0, to which the notebooks
    belong. Raises UserError where the data root lacks that release: the tables of v1.1 have other means.
    """
    return release_1_0()[NB201[name]]


def millions(name: str, dataset: str, channels: int, layers: int) -> float:
    """Parameters of a published network in millions, for the rounded figures of the README."""
    return count(name, dataset, channels, layers, "parameters") / 1e6


def supernet_state_entries(channels: int, layers: int) -> int:
    """Tensors in the state of the search network of the DARTS space, ten classes."""
    with torch.device("meta"):
        return len(build_supernet(channels, 10, layers).state_dict())


def all_cells(statistic: str) -> float:
    """``mean``, ``median`` or ``best`` CIFAR-10 test accuracy of all cells in release 1.0 of the benchmark."""
    accuracies = list(release_1_0().values())
    return {"mean": fmean(accuracies), "median": median(accuracies), "best": max(accuracies)}[statistic]


def settings_of(section: str, variant: str) -> Any:
    """Settings of a stage under one of its variants; ``authors``: the defaults."""
    from papers.nsas.__main__ import SEARCH, TRAIN

    stage = {stage.section: stage for stage in (*SEARCH.values(), *TRAIN.values())}[section]
    return stage.settings(**stage.variants.get(variant, {}))


def final_learning_rate(section: str, variant: str = "authors", shift: int = 0) -> str:
    """Rate of the last epoch to six significant digits; ``shift`` 1: with the scheduler stepped first."""
    stage = settings_of(section, variant)
    if section == "train":
        rate = learning_rate(replace(stage, shifted_lr=bool(shift)), stage.epochs - 1)
    else:
        rate = cosine(stage.lr, stage.lr_min, shifted(stage.epochs - 1, bool(shift)), stage.epochs)
    return f"{rate:.6g}"


def final_drop_path() -> float:
    """Drop-path probability of the last of 600 epochs."""
    train = settings_of("train", "authors")
    return drop_path_probability(train.drop_path, train.epochs - 1, train.epochs)


def final_temperature() -> float:
    """Temperature of the last epoch of a GDAS search on NAS-Bench-201."""
    search = settings_of("search_nb201", "authors")
    return nb201_temperature(search.epochs - 1, search.epochs, search.tau_max, search.tau_min)


def temperature_of_step(step: int) -> str:
    """Temperature of a step within the epoch of a GDAS search in the DARTS space, to two significant digits."""
    return f"{darts_temperature(step):.1e}"
