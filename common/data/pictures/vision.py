"""The only importer of torchvision.

PyPI's torchvision is built for CUDA; beside a CPU-only torch its compiled extension cannot be loaded, and importing the
package then fails with ``operator torchvision::nms does not exist``: it attaches a Python implementation to an operator
that the extension should have declared. Declaring the two schemas first mends it. Nothing in this suite calls them.
Where the extension loads, nothing is declared here.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_LIBRARIES: list[torch.library.Library] = []  # a Library's definitions vanish with it, so it is kept


def _declared(name: str) -> bool:
    try:
        return bool(getattr(torch.ops.torchvision, name).default)
    except (AttributeError, RuntimeError):
        return False


def _extension_loads() -> bool:
    """Whether torchvision's compiled operators can be loaded into this process (then they declare the schemas)."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for path in sorted(Path(spec.origin).parent.glob("_C*")):
        if path.suffix in (".so", ".pyd", ".dylib"):
            try:
                torch.ops.load_library(str(path))
            except (OSError, RuntimeError):
                continue
            return True
    return False


def _declare_missing() -> None:
    if all(_declared(name) for name in _SCHEMAS):
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not _declared(name):
            library.define(schema)
    _LIBRARIES.append(library)


@functools.cache
def torchvision() -> ModuleType:
    """The torchvision package, imported on first use (slow, hence lazy) and repaired where its extension is missing."""
    if not _extension_loads():
        _declare_missing()
    return importlib.import_module("torchvision")


def transforms() -> ModuleType:
    """``torchvision.transforms``."""
    torchvision()
    return importlib.import_module("torchvision.transforms")


def functional() -> ModuleType:
    """``torchvision.transforms.functional``."""
    torchvision()
    return importlib.import_module("torchvision.transforms.functional")
