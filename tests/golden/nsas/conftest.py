"""Golden values of NSAS: loading, stored weights, the fill rule, closeness relative to the largest magnitude."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden.nsas.loops import DTYPES

DATA = Path(__file__).parent / "data"


class Golden:
    """Access to the golden files of this folder."""

    def json(self, name: str):
        path = DATA / name
        if name.endswith(".gz"):
            with gzip.open(path, "rt") as file:
                return json.load(file)
        return json.loads(path.read_text())

    def npz(self, name: str) -> dict[str, np.ndarray]:
        with np.load(DATA / name) as file:
            return {key: file[key] for key in file.files}

    def state_dict(self, arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """sd_keys / sd_shapes / sd_flat -> tensors."""
        tensors, position = {}, 0
        for key, shape in zip(arrays["sd_keys"], arrays["sd_shapes"]):
            dims = [int(n) for n in str(shape).split(",") if n]
            count = int(np.prod(dims)) if dims else 1
            values = arrays["sd_flat"][position : position + count].reshape(dims)
            tensors[str(key)] = torch.from_numpy(values.copy())
            position += count
        return tensors

    def load(self, model: torch.nn.Module, arrays: dict[str, np.ndarray]) -> torch.nn.Module:
        """Stored weights into a model: same keys, counters left at zero."""
        stored = self.state_dict(arrays)
        result = model.load_state_dict(stored, strict=False)
        assert not result.unexpected_keys
        assert all(key.endswith("num_batches_tracked") for key in result.missing_keys)
        for name, buffer in model.named_buffers():
            if name.endswith("num_batches_tracked"):
                buffer.zero_()
        return model

    def fill_value(self, key: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
        """The fill rule of the golden README (float32)."""
        z = np.random.RandomState((zlib.crc32(key.encode()) + seed) % 2**32).standard_normal(shape)
        if key.endswith("running_mean"):
            z = 0.1 * z
        elif key.endswith("running_var"):
            z = np.exp(0.2 * z)
        elif len(shape) == 1 and key.endswith("weight"):
            z = 1 + 0.1 * z
        elif len(shape) == 1:
            z = 0.1 * z
        else:
            z = z * np.sqrt(1 / np.prod(shape[1:]))
        return z.astype(np.float32)

    def fill(self, model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
        tensors = model.state_dict()
        for key, tensor in tensors.items():
            if not key.endswith("num_batches_tracked"):
                tensor.copy_(torch.from_numpy(self.fill_value(key, tuple(tensor.shape), seed)))
        return model

    def wave(self, shape: tuple[int, ...], a: float = 0.7) -> torch.Tensor:
        grids = np.indices(shape).astype(np.float64)
        total = sum(c * g for c, g in zip((1.3, 0.9, 0.37, 0.11, 0.05), grids))
        return torch.from_numpy(np.sin(a * total).astype(np.float32))

    def close(self, got, want, tolerance: float) -> None:
        """max |got - want| <= tolerance * max |want|."""
        got = np.asarray(got.detach() if isinstance(got, torch.Tensor) else got, dtype=np.float64)
        want = np.asarray(want, dtype=np.float64)
        assert got.shape == want.shape
        scale = max(float(np.abs(want).max()), 1e-12)
        error = float(np.abs(got - want).max()) / scale
        assert error <= tolerance, f"relative error {error:.3g} > {tolerance:.3g}"


@pytest.fixture
def golden() -> Golden:
    return Golden()


@pytest.fixture(params=["f64", "f32"])
def precision(request):
    """Loops in both types that the values were written in."""
    torch.set_default_dtype(DTYPES[request.param])
    yield request.param
    torch.set_default_dtype(torch.float32)
