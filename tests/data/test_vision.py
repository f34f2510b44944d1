"""torchvision can be imported through the one module that may, and nothing else in the suite imports it."""

from __future__ import annotations

import re
import subprocess
import sys

from common.data.pins import ROOT


def test_only_vision_imports_torchvision():
    pattern = re.compile(r"^\s*(import|from)\s+torchvision", re.MULTILINE)
    found = [
        str(path.relative_to(ROOT))
        for folder in ("common", "papers", "reproductions")
        for path in (ROOT / folder).rglob("*.py")
        if pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []  # vision.py itself uses importlib


def test_a_fresh_process_can_import_it_and_use_it():
    code = (
        "from common.data.pictures import vision\n"
        "crop = vision.transforms().RandomCrop(4, padding=1)\n"
        "import torch\n"
        "print(crop(torch.zeros(3, 4, 4)).shape)\n"
        "import torchvision; assert torchvision is vision.torchvision()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "torch.Size([3, 4, 4])" in done.stdout
