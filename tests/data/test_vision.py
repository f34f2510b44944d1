"""torchvision can be imported through the one module that may, and nothing else in the suite imports it."""

from __future__ import annotations

import re
import shutil
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


def test_a_fresh_process_can_import_it_and_use_it(tmp_path):
    """As in the environment of ``make venv``, where this file is copied and Pythons start with its ``watch``."""
    shutil.copy(ROOT / "common" / "data" / "pictures" / "vision.py", tmp_path / "vision_watch.py")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import vision_watch; vision_watch.watch()\n"
        "assert 'torch' not in sys.modules and 'common' not in sys.modules\n"
        "import torchvision, torch\n"
        "from common.data.pictures import vision\n"
        "print(vision.transforms().RandomCrop(4, padding=1)(torch.zeros(3, 4, 4)).shape)\n"
        "assert torchvision is vision.torchvision()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "torch.Size([3, 4, 4])" in done.stdout
