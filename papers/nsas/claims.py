"""Claims that need no training: rounded sizes, where the schedules end, and what all cells of NAS-Bench-201 reach."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean, median
from typing import Any

import torch

from common.data.nasbench201 import release_1_0
from common.train.schedules import cosine
from papers.nsas.describe import count
from papers.nsas.method.relaxation import darts_temperature, nb201_temperature
from papers.nsas.method.schedules import drop_path, shifted
from papers.nsas.network.networks import build_supernet
from papers.nsas.train import learning_rate


def millions(name: str, dataset: str, channels: int, layers: int) -> float:
    """Parameters of a published network in millions, for the rounded figures of the README."""
    return count(name, dataset, channels, layers, "parameters") / 1e6


def supernet_state_entries(channels: int, layers: int) -> int:
    """Tensors in the state of the search network of the DARTS space, ten classes."""
    with torch.device("meta"):
        return len(build_supernet(channels, 10, layers).state_dict())


def all_cells(statistic: str) -> float:
    """``mean``, ``median`` or ``best`` CIFAR-10 test accuracy of all cells in release 1.0 of the benchmark."""
    of = {"mean": fmean, "median": median, "best": max}[statistic]
    return float(of(list(release_1_0().values())))


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
    return drop_path(train.epochs - 1, train.drop_path, train.epochs)


def final_temperature() -> float:
    """Temperature of the last epoch of a GDAS search on NAS-Bench-201."""
    search = settings_of("search_nb201", "authors")
    return nb201_temperature(search.epochs - 1, search.epochs, search.tau_max, search.tau_min)


def temperature_of_step(step: int) -> str:
    """Temperature of a step within the epoch of a GDAS search in the DARTS space, to two significant digits."""
    return f"{darts_temperature(step):.1e}"
