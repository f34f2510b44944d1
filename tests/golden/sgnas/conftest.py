"""Golden values of SGNAS: loading, the fill rule, closeness relative to an array's largest magnitude."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

DATA = Path(__file__).parent / "data"


class Golden:
    """Access to the golden files of this folder."""

    def json(self, name: str):
        return json.loads((DATA / name).read_text())

    def npz(self, name: str) -> dict[str, np.ndarray]:
        with np.load(DATA / name) as file:
            return {key: file[key] for key in file.files}

    def part(self, arrays: dict[str, np.ndarray], prefix: str) -> dict[str, torch.Tensor]:
        """The tensors whose names start with ``prefix``, without it."""
        return {k.removeprefix(prefix): torch.from_numpy(v.copy()) for k, v in arrays.items() if k.startswith(prefix)}

    def close(self, actual, expected, tolerance: float, what: str = "") -> None:
        """Largest deviation relative to the largest magnitude of ``expected``."""
        a = np.asarray(actual.detach() if isinstance(actual, torch.Tensor) else actual, dtype=np.float64)
        b = np.asarray(expected.detach() if isinstance(expected, torch.Tensor) else expected, dtype=np.float64)
        assert a.shape == b.shape, f"{what}: shape {a.shape}, expected {b.shape}"
        scale = max(np.abs(b).max(), 1e-12)
        assert np.abs(a - b).max() <= tolerance * scale, f"{what}: off by {np.abs(a - b).max() / scale:.2e}"

    def fill(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
        """The fill rule of the full-size files."""
        tensors = {}
        for key, shape in shapes.items():
            if key.endswith("num_batches_tracked"):
                tensors[key] = torch.zeros((), dtype=torch.int64)
                continue
            z = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
            if key.endswith("running_var"):
                z = np.exp(0.3 * z)
            elif key.endswith(("running_mean", "bias")):
                z = 0.1 * z
            elif len(shape) == 1:
                z = 1 + 0.2 * z
            else:
                z = z * np.sqrt(2 / np.prod(shape[1:]))
            tensors[key] = torch.from_numpy(z.astype(np.float32))
        return tensors

    def summary(self, logits: torch.Tensor, expected: dict, tolerance: float = 1e-4) -> None:
        """first8, mean, l2, argmax, min, max of full-size logits."""
        flat = logits.detach().double()
        scale = max(abs(expected["min"]), abs(expected["max"]))
        assert (flat[0, :8] - torch.tensor(expected["first8"]).double()).abs().max() < tolerance * scale
        assert flat.argmax(1).tolist() == expected["argmax"]
        for key, value in (("mean", flat.mean()), ("min", flat.min()), ("max", flat.max())):
            assert abs(float(value) - expected[key]) < tolerance * scale, key
        assert abs(float(flat.norm()) - expected["l2"]) < tolerance * expected["l2"]


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden()
