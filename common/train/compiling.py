"""``--compile``: a derived network as one compiled function, a supernet operation by operation, since its paths change.

Compiled kernels join operations and so round otherwise than torch's own: results say that they were used, and agree
with the plain form to a tolerance. Draws (drop path, dropout) are the same. State dicts keep their names.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn

BACKEND = "inductor"
INDUCTOR = {"fallback_random": True}  # draws as torch's own
_used = [False]  # whether anything was compiled in this process
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
        operations: list[Any] = [module for module in supernet.modules() if isinstance(module, kinds)]
        for module in operations:
            module.compile(**_how(dynamic=False))
            if hasattr(module, "after_relu"):
                module.after_relu = torch.compile(module.after_relu, **_how(dynamic=False))


def asked(options: Any) -> bool:
    """Whether networks are to be compiled; a plan computes a few steps only, and does not."""
    return bool(getattr(options, "compile", False)) and not getattr(options, "plan", False)


def plainly() -> Any:
    """Inside, compiled modules run as they are written: for second derivatives, which compiled code has none of."""
    return torch.compiler.set_stance("force_eager") if _used[0] else contextlib.nullcontext()


def _how(dynamic: bool | None) -> dict[str, Any]:
    _used[0] = True
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = FORMS
    return {"backend": BACKEND, "dynamic": dynamic, "options": INDUCTOR if BACKEND == "inductor" else None}
