"""A latency table beside multiply-adds: the same closed form F(p), with milliseconds measured on the device.

Not in the original, whose latency functions were never used in a search.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from common.run.device import pick_device
from common.run.distributed import one_process
from common.run.files import write_json
from common.run.folder import say
from papers.sgnas.method.lookup import Lookup
from papers.sgnas.networks.architectures import (
    FIRST_CHANNELS,
    KERNEL_SIZES,
    LAST_CHANNELS,
    STEM_CHANNELS,
    SUB_BLOCKS,
    Macro,
    macro_for,
)
from papers.sgnas.networks.derived import Block
from papers.sgnas.networks.layers import ConvBN
from papers.sgnas.studies.settings import Latency

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Wall seconds of a piece of work, until the device has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


@torch.no_grad()
def measure(module: nn.Module, shape: tuple[int, ...], device: torch.device, repeats: int) -> float:
    """Median milliseconds of a forward pass on channels-last input [N, C, H, W]."""
    module = module.to(device).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
    times = [seconds_of(lambda: module(x), device) for _ in range(repeats + 2)]
    return 1e3 * statistics.median(times[2:])


def measure_table(macro: Macro, batch: int, device: torch.device, repeats: int) -> Lookup:
    """Entries as in the multiply-add table: one sub-block's depthwise convolution, expansion and projection of six."""
    size = -(-macro.input_size // macro.stem_stride)

    def whole(module: nn.Module, channels: int, side: int) -> float:
        return measure(module, (batch, channels, side, side), device, repeats)

    def conv(channels: int, out: int, side: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> float:
        return whole(nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups), channels, side)

    base = whole(ConvBN(3, STEM_CHANNELS, 3, macro.stem_stride, 0.1), 3, macro.input_size)
    base += whole(Block(STEM_CHANNELS, FIRST_CHANNELS, [3], 1, False, "relu", 0.1), STEM_CHANNELS, size)
    depthwise, expand, project = [], [], []
    for c, (out, stride) in zip(macro.in_channels, macro.layers):
        depthwise.append([conv(c, c, size, k, stride, c) for k in KERNEL_SIZES])
        expand.append(conv(c, SUB_BLOCKS * c, size))
        size = -(-size // stride)
        project.append(conv(SUB_BLOCKS * c, out, size))
    last = macro.layers[-1][0]
    base += whole(ConvBN(last, LAST_CHANNELS, 1, 1, 0.1), last, size)
    return Lookup(base, torch.tensor(depthwise), torch.tensor(expand), torch.tensor(project), "ms")


def latency(settings: Latency, options: RunOptions) -> dict[str, Any]:
    """The ``latency`` verb: measure a table and write it to <out>/latency.json. Raises UserError."""
    one_process("latency")
    device, macro = pick_device(options), macro_for(settings.macro)
    lookup = measure_table(macro, settings.batch_size, device, settings.repeats)
    folder = options.folder
    content = {
        "schema": 1,
        "macro": macro.name,
        "input_size": macro.input_size,
        "batch_size": settings.batch_size,
        "device": str(device),
        **lookup.to_json(),
    }
    write_json(folder / "latency.json", content)
    total = lookup.base + float(
        lookup.depthwise.max(1).values.sum() * SUB_BLOCKS + lookup.expand.sum() + lookup.project.sum()
    )
    say(f"{folder / 'latency.json'}: {macro.name}, dearest network about {total:.2f} ms on {device}")
    return {"file": str(folder / "latency.json"), "dearest_ms": total}
