"""``--compile``: a derived network as one compiled function, a supernet operation by operation, since its paths change.

Compiled kernels join operations and so round otherwise than torch's own: results say that they were used, and agree
with the plain form to a tolerance. Draws (drop path, dropout) are the same. State dicts keep their names.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.errors import UserError

BACKEND = "inductor"
# Layouts stay as they are: strided 1x1 convolutions of channels-last images damage memory on the CPU (torch 2.13).
INDUCTOR = {"fallback_random": True, "layout_optimization": False}
FORMS = 512  # of one piece of code, by sizes and modes, before torch would give up and run it plainly


def compile_whole(network: nn.Module, options: Any) -> None:
    """Under ``--compile``: every call of the network is one compiled function; made at the first, which takes long."""
    if asked(options):
        network.compile(**_how(dynamic=None))


def compile_operations(supernet: nn.Module, options: Any, *kinds: type[nn.Module]) -> None:
    """Under ``--compile``: every module of these kinds below it, whatever calls it, and its ``after_relu``, alone.

    Operations of one kind and size share what was compiled.
    """
    if asked(options):
        for module in supernet.modules():
            if isinstance(module, kinds):
                module.compile(**_how(dynamic=False))
                if hasattr(module, "after_relu"):
                    module.after_relu = torch.compile(module.after_relu, **_how(dynamic=False))


def asked(options: Any) -> bool:
    """Whether networks are to be compiled; a plan computes a few steps only, and does not."""
    return bool(getattr(options, "compile", False)) and not getattr(options, "plan", False)


def plainly() -> Any:
    """Inside, compiled modules run as they are written: for second derivatives, which compiled code has none of."""
    return torch.compiler.set_stance("force_eager")


def check_compiler(device: torch.device) -> None:
    """Raises UserError where nothing here can compile for the device."""
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise UserError("--compile needs the package triton for GPUs, which is missing; install it, or leave --compile out")
        return
    if device.type != "cpu":
        raise UserError(f"--compile is for cpu and cuda, not for {device.type}; leave --compile out")
    compiler = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    if shutil.which(compiler) is None:
        raise UserError(
            f"--compile needs a C++ compiler, and {compiler} is not found; install one, name another in the "
            f"environment variable CXX, or leave --compile out"
        )
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        raise UserError(
            "--compile needs Python.h, which this Python came without; install its development files (python3-dev), or "
            "leave --compile out"
        )


def _how(dynamic: bool | None) -> dict[str, Any]:
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = FORMS
    return {"backend": BACKEND, "dynamic": dynamic, "options": INDUCTOR if BACKEND == "inductor" else None}
