"""The fill rule of the golden networks: weights and inputs are functions of their names (data/ holds the values)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

DATA = Path(__file__).parent / "data"
INPUT_SALT = "evnas"


def value_of(key: str, shape: tuple[int, ...], salt: str) -> np.ndarray:
    """One tensor of a state dict, float32."""
    r = np.random.RandomState(zlib.crc32(f"{salt}:{key}".encode()))
    kind = key.rsplit(".", 1)[-1]
    if kind == "num_batches_tracked":
        value = np.zeros(shape)
    elif kind == "running_mean" or kind == "bias":
        value = 0.1 * r.standard_normal(shape)
    elif kind == "running_var" or (kind == "weight" and len(shape) == 1):
        value = 0.5 + r.random_sample(shape)
    elif kind == "arch_parameters":
        value = r.random_sample(shape)
    else:
        value = r.standard_normal(shape) * np.sqrt(1.3 / np.prod(shape[1:]))
    return np.asarray(value, dtype=np.float32)


@pytest.fixture(scope="session")
def fill() -> Callable[[torch.nn.Module, str], torch.nn.Module]:
    """Fill a module's state dict by the rule."""

    def apply(module: torch.nn.Module, salt: str) -> torch.nn.Module:
        state = module.state_dict()
        filled = {k: torch.from_numpy(value_of(k, tuple(v.shape), salt)).to(v.dtype) for k, v in state.items()}
        module.load_state_dict(filled)
        return module

    return apply


@pytest.fixture(scope="session")
def rule_input() -> Callable[[str, tuple[int, ...]], torch.Tensor]:
    """The input tensor of a name."""

    def make(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        r = np.random.RandomState(zlib.crc32(f"{INPUT_SALT}:input:{name}".encode()))
        return torch.from_numpy(r.standard_normal(shape).astype(np.float32))

    return make


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """A golden file by name: arrays of an npz, content of a json."""

    def load(name: str) -> Any:
        path = DATA / name
        if path.suffix == ".json":
            return json.loads(path.read_text())
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}

    return load


@pytest.fixture(scope="session")
def close() -> Callable[..., None]:
    """Within 1e-4 of the largest absolute entry, the tolerance of the golden README."""

    def check(found: Any, expected: np.ndarray, what: str = "", tolerance: float = 1e-4) -> None:
        values = found.detach().cpu().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
        assert values.shape == expected.shape, what
        scale = float(np.abs(expected).max()) if expected.size else 1.0
        assert float(np.abs(values - expected).max(initial=0.0)) <= tolerance * max(scale, 1e-12), what

    return check
