"""The only importer of torchvision.

PyPI's torchvision is built for CUDA; beside a CPU-only torch its compiled extension cannot be loaded, and importing the
package then fails with ``operator torchvision::nms does not exist``: it attaches a Python implementation to an operator
that the extension should have declared. Declaring the two schemas first mends it. Nothing in this suite calls them.
Where the extension loads, nothing is declared here.

``make venv`` copies this file into such an environment, whose Pythons call ``watch`` when they start, so that
``import torchvision`` works there outside the suite too. Hence no import of torch or of the suite on top.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_LIBRARIES: list[Any] = []  # a torch.library.Library's definitions vanish with it, so it is kept


def mend() -> None:
    """Declare what the extension should have declared, where it cannot be loaded."""
    if not _extension_loads():
        _declare_missing()


def watch() -> None:
    """From now on the first import of torchvision, whoever asks for it, is preceded by ``mend``."""
    sys.meta_path.insert(0, _Watch())  # type: ignore[arg-type]


class _Watch:
    """A finder that finds nothing."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)  # type: ignore[arg-type]
            mend()


def _declared(name: str) -> bool:
    import torch

    try:
        return bool(getattr(torch.ops.torchvision, name).default)
    except (AttributeError, RuntimeError):
        return False


def _extension_loads() -> bool:
    """Whether torchvision's compiled operators can be loaded into this process (then they declare the schemas)."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    folder = os.path.dirname(spec.origin)
    for name in sorted(os.listdir(folder)):
        if name.startswith("_C") and name.endswith((".so", ".pyd", ".dylib")):
            try:
                torch.ops.load_library(os.path.join(folder, name))
            except (OSError, RuntimeError):
                continue
            return True
    return False


def _declare_missing() -> None:
    import torch

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
    mend()
    return importlib.import_module("torchvision")


def transforms() -> ModuleType:
    """``torchvision.transforms``."""
    torchvision()
    return importlib.import_module("torchvision.transforms")


def functional() -> ModuleType:
    """``torchvision.transforms.functional``."""
    torchvision()
    return importlib.import_module("torchvision.transforms.functional")
