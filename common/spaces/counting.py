"""Counting parameters and multiply-adds (MACs). Conventions that only one paper uses stand in that paper."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(model: nn.Module, exclude: Sequence[str] = ("auxiliary",)) -> int:
    """Number of parameters whose names contain none of ``exclude`` (the papers leave out the auxiliary head)."""
    return sum(p.numel() for name, p in model.named_parameters() if not any(word in name for word in exclude))


def _counts(model: nn.Module, shape: Sequence[int], arguments: Sequence[Any]) -> dict[Any, int]:
    """torch's FLOP counts by operator for one forward in eval mode on ``meta`` tensors (nothing is computed)."""
    on_meta = all(t.is_meta for t in (*model.parameters(), *model.buffers()))
    meta = model if on_meta else copy.deepcopy(model).to("meta")
    modes = {module: module.training for module in meta.modules()}
    meta.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        meta(torch.zeros(1, *shape, device="meta"), *arguments)
    for module, training in modes.items():
        module.training = training
    return counter.get_flop_counts().get("Global", {})


def macs(model: nn.Module, shape: Sequence[int], *arguments: Any) -> int:
    """Multiply-adds of convolutions and linear layers for one input of ``shape`` (C, H, W), eval mode.

    torch counts a multiply-add as two operations, and recurrent layers not at all. ``arguments`` follow the input.
    """
    return macs_and_conv_macs(model, shape, *arguments)[0]


def macs_and_conv_macs(model: nn.Module, shape: Sequence[int], *arguments: Any) -> tuple[int, int]:
    """The same, and the multiply-adds of convolutions alone, from one forward."""
    counts = _counts(model, shape, arguments)
    return sum(counts.values()) // 2, sum(n for op, n in counts.items() if "convolution" in str(op)) // 2
