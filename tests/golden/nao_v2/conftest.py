"""Golden values of NAO-V2: unpacking, closeness relative to an array's largest magnitude, strict loading."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

DATA = Path(__file__).parent / "data"


class Golden:
    """Access to the golden files of this folder."""

    def json(self, name: str):
        return json.loads((DATA / name).read_text())

    def npz(self, name: str) -> dict[str, torch.Tensor]:
        """name -> tensor: float32 entries of ``data`` by ``index``; integer entries under their plain name."""
        with np.load(DATA / name) as file:
            if "index" not in file.files:
                return {key.replace("|", "/"): torch.from_numpy(file[key].copy()) for key in file.files}
            data, found = file["data"], {}
            for key, shape, offset in json.loads(str(file["index"])):
                count = int(np.prod(shape)) if shape else 1
                found[key] = torch.from_numpy(data[offset : offset + count].reshape(shape).copy())
            for key in file.files:
                if key.startswith("int:"):
                    found[key[4:].replace("|", "/")] = torch.from_numpy(file[key].copy())
        return found

    def part(self, arrays: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    def load(self, module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
        """Strict, but for batch counters, which the files leave out."""
        missing, unexpected = module.load_state_dict(tensors, strict=False)
        assert not unexpected, unexpected[:5]
        assert not [k for k in missing if not k.endswith("num_batches_tracked")], missing[:5]

    def close(self, actual, expected, tolerance: float = 1e-4, what: str = "") -> None:
        a, b = (torch.as_tensor(v).detach().double() for v in (actual, expected))
        assert a.shape == b.shape, f"{what}: shape {tuple(a.shape)}, expected {tuple(b.shape)}"
        largest = float(b.abs().max()) if b.numel() else 0.0
        limit = max(tolerance * largest, 1e-5 if tolerance <= 1e-4 else 0.0, 1e-7)
        off = float((a - b).abs().max()) if b.numel() else 0.0
        assert off <= limit, f"{what}: off by {off:.2e}, largest {largest:.2e}"


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden()
