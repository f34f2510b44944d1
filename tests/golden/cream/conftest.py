"""Golden values of Cream and the recipes that regenerate their inputs (see data/README.md for their origin)."""

import json
from pathlib import Path
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest
import torch

from papers.cream.networks.layout import Layout
from papers.cream.networks.networks import Supernet

DATA = Path(__file__).parent / "data"


def load(name):
    if name.endswith(".json"):
        return json.loads((DATA / name).read_text())
    with np.load(DATA / name, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def normal(seed, shape):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def integers(seed, high, count):
    return torch.from_numpy(np.random.RandomState(seed).randint(0, high, count)).long()


def fill(model, base=0):
    """Every state entry from its own stream, by the kind of entry its name and shape tell."""
    state = model.state_dict()
    for name, tensor in state.items():
        rng, n = np.random.RandomState(crc32(name.encode()) ^ base), tensor.numel()
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_mean"):
            values = 0.1 * rng.standard_normal(n)
        elif name.endswith("running_var"):
            values = 0.5 + rng.random_sample(n)
        elif tensor.ndim == 1 and name.endswith("weight"):
            values = 0.75 + 0.5 * rng.random_sample(n)
        elif tensor.ndim == 1:
            values = 0.1 * rng.standard_normal(n)
        else:
            values = rng.standard_normal(n) * np.sqrt(1.0 / np.prod(tensor.shape[1:]))
        tensor.copy_(torch.from_numpy(values.astype(np.float32)).view(tensor.shape))
    return model


def weights(archive, dtype=torch.float32):
    return {
        k[2:]: torch.from_numpy(v).to(dtype if v.dtype.kind == "f" else torch.int64)
        for k, v in archive.items()
        if k.startswith("w/")
    }


def tiny_layout():
    return Layout(stem=8, first=8, widths=(8, 8, 16, 16, 24), last=16, features=24)


def tiny_supernet(dtype=torch.float32):
    net = Supernet([1, 2, 1, 1, 1], 6, 3, tiny_layout()).to(dtype)
    net.load_state_dict(weights(load("supernet_tiny.npz"), dtype))
    return net


@pytest.fixture
def golden():
    return SimpleNamespace(
        load=load, normal=normal, integers=integers, fill=fill, weights=weights, tiny_layout=tiny_layout,
        tiny_supernet=tiny_supernet,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Every test here."""
