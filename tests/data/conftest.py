"""A small data root with made-up CIFAR files and pins for them."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from common.data import pins


@pytest.fixture
def real_root() -> Path:
    """The real data root, from NAS_DATA."""
    root = os.environ.get("NAS_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("real data: set NAS_DATA to a data root")
    return Path(root)


@pytest.fixture
def small_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """root: a data root with cifar10 (20 images a file) and penn files; pins written for it; options for opening it."""
    root = tmp_path / "root"
    rng = np.random.default_rng(0)
    files = {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        content = {
            b"data": rng.integers(0, 256, (20, 3072)).astype(np.uint8),
            b"labels": [int(x) for x in rng.integers(0, 10, 20)],
        }
        path = root / "cifar-10-batches-py" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(content, protocol=2))
        files[name] = {"md5": hashlib.md5(path.read_bytes()).hexdigest()}
    text = {"train": "a b c\nb <unk>\n\n", "valid": "c a\n", "test": "a d\n"}
    words = {}
    for part, content in text.items():
        path = root / "penn" / f"{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        words[path.name] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    pins_file = tmp_path / "data.yaml"
    pins_file.write_text(
        yaml.safe_dump(
            {
                "cifar10": {"folder": "cifar-10-batches-py", "files": files},
                "ptb": {"folder": "penn", "files": words},
            }
        )
    )
    monkeypatch.setattr(pins, "PINS_FILE", pins_file)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return SimpleNamespace(
        root=root, pins=pins_file, options=SimpleNamespace(data=root, allow_unpinned=False), text=text
    )
