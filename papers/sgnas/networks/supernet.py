"""The unified supernet (Method 3): one block holds all expansion rates, kernel sizes and positions.

Block: 1x1 expansion c -> 6c, BN, ReLU6; six sub-blocks on consecutive groups of c channels, each with three depthwise
convolutions of its own (3x3, 5x5, 7x7) or skip (zero); 1x1 projection 6c -> c'; one of six "switchable" normalisations,
chosen by the number of skipped sub-blocks; residual. The expansion rate is the number of sub-blocks that are on.
Ablation: one normalisation in place of the six, whatever is skipped. The paper's own form of it is unpublished.

The six sub-blocks' convolutions of one kernel size are stored as one tensor, so that equal kernels run as one
convolution. The authors' dense convolution behind skip, multiplied by zero, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from common.errors import UserError
from common.run.files import read_json, write_json
from common.weights.read import load_strict, load_tensors, save_weights
from papers.sgnas.networks.architectures import (
    FIRST_CHANNELS,
    KERNEL_SIZES,
    LAST_CHANNELS,
    SKIP,
    STEM_CHANNELS,
    SUB_BLOCKS,
    Macro,
    Ops,
    macro_for,
)
from papers.sgnas.networks.derived import Block
from papers.sgnas.networks.layers import BN_EPS, ConvBN, init_conv, init_module, relu6_


class RowBatchNorm(nn.Module):
    """Batch normalisations side by side: tensors [rows], of which a call uses (and updates) a part."""

    eps = BN_EPS
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, *shape: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))

    def forward(self, x: torch.Tensor, rows: torch.Tensor | int) -> torch.Tensor:
        """Normalise x [N, C, H, W] with the rows (index tensor [C]; an int picks one row of a 2-d set)."""
        if isinstance(rows, int):
            return functional.batch_norm(
                x, self.running_mean[rows], self.running_var[rows], self.weight[rows], self.bias[rows], self.training,
                self.momentum, self.eps,
            )  # fmt: skip
        # index_select and index_copy_ where t[rows] reads shorter: on a GPU the gradient of t[rows] sorts the indices
        mean, var = self.running_mean.index_select(0, rows), self.running_var.index_select(0, rows)
        weight, bias = self.weight.index_select(0, rows), self.bias.index_select(0, rows)
        out = functional.batch_norm(x, mean, var, weight, bias, self.training, self.momentum, self.eps)
        if self.training:
            self.running_mean.index_copy_(0, rows, mean)
            self.running_var.index_copy_(0, rows, var)
        return out

    @torch.no_grad()
    def observe(self, x: torch.Tensor, rows: torch.Tensor) -> None:
        """Update the running statistics of some rows, as normalising x with them would."""
        var, mean = torch.var_mean(x, (0, 2, 3), unbiased=True)
        for kept, new in ((self.running_mean, mean), (self.running_var, var)):
            kept.index_copy_(0, rows, torch.lerp(kept.index_select(0, rows), new, self.momentum))


class UnifiedBlock(nn.Module):
    """One searched layer of the supernet."""

    def __init__(self, channels: int, out: int, stride: int, momentum: float, switchable: bool = True) -> None:
        super().__init__()
        hidden = SUB_BLOCKS * channels
        self.channels, self.stride = channels, stride
        self.residual = stride == 1 and channels == out
        self.expand = nn.Parameter(torch.empty(hidden, channels, 1, 1))
        self.expand_bn = RowBatchNorm(hidden, momentum=momentum)
        self.depthwise: Any = nn.ParameterList([nn.Parameter(torch.empty(hidden, 1, k, k)) for k in KERNEL_SIZES])
        self.depthwise_bn: Any = nn.ModuleList([RowBatchNorm(hidden, momentum=momentum) for _ in KERNEL_SIZES])
        self.project = nn.Parameter(torch.empty(out, hidden, 1, 1))
        self.norms = SUB_BLOCKS if switchable else 1
        self.switchable_bn = RowBatchNorm(self.norms, out, momentum=momentum)
        self.known_rows: dict[tuple[int | torch.device, ...], torch.Tensor] = {}

    def reset_parameters(self, generator: torch.Generator) -> None:
        """The authors' initialisation of every convolution."""
        init_conv(self.expand, generator)
        for weight in self.depthwise:  # the rule looks at one sub-block's convolution, whose width is ``channels``
            for part in weight.data.chunk(SUB_BLOCKS):
                init_conv(part, generator)
        init_conv(self.project, generator)

    def rows(self, blocks: Sequence[int]) -> torch.Tensor:
        """Hidden channels of the given sub-blocks, in that order."""
        key: tuple[int | torch.device, ...] = (*blocks, self.expand.device)
        if key not in self.known_rows:  # at most 63 sets: each goes to the device once
            start = torch.tensor(blocks)[:, None] * self.channels
            self.known_rows[key] = (start + torch.arange(self.channels)).flatten().to(self.expand.device)
        return self.known_rows[key]

    def norm(self, skipped: int) -> int:
        """Row of ``switchable_bn`` for a number of skipped sub-blocks: that number, or the only one."""
        return skipped if self.norms > 1 else 0

    def forward(self, x: torch.Tensor, ops: Sequence[int]) -> torch.Tensor:
        """Single path: each sub-block runs one operation; only what contributes to the output is computed.

        The expansion runs in groups of equal kernel, so that no activation is copied. Its normalisation also sees the
        skipped sub-blocks' channels (running statistics only: they contribute nothing).
        """
        hidden, columns = [], []
        for k in range(len(KERNEL_SIZES)):
            blocks = [i for i, op in enumerate(ops) if op == k]
            if blocks:
                rows = self.rows(blocks)
                y = relu6_(self.expand_bn(functional.conv2d(x, self.expand.index_select(0, rows)), rows))
                weight = self.depthwise[k].index_select(0, rows)
                y = functional.conv2d(y, weight, None, self.stride, KERNEL_SIZES[k] // 2, groups=len(rows))
                hidden.append(relu6_(self.depthwise_bn[k](y, rows)))
                columns.append(rows)
        skipped = [i for i, op in enumerate(ops) if op == SKIP]
        if skipped and self.training:
            with torch.no_grad():
                rows = self.rows(skipped)
                self.expand_bn.observe(functional.conv2d(x, self.expand.index_select(0, rows)), rows)
        y = hidden[0] if len(hidden) == 1 else torch.cat(hidden, 1)
        y = functional.conv2d(y, self.project.index_select(1, torch.cat(columns)))
        y = self.switchable_bn(y, self.norm(len(skipped)))
        return x + y if self.residual else y


class Supernet(nn.Module):
    """Images [N, 3, H, W] and a path (operation index per layer and sub-block) -> logits [N, classes]."""

    def __init__(
        self,
        macro: Macro,
        classes: int,
        momentum: float = 0.1,
        generator: torch.Generator | None = None,
        switchable_bn: bool = True,
    ) -> None:
        super().__init__()
        generator = generator or torch.Generator().manual_seed(0)
        self.macro, self.classes, self.switchable_bn = macro, classes, switchable_bn
        self.first = ConvBN(3, STEM_CHANNELS, 3, macro.stem_stride, momentum)
        self.first_mb = Block(STEM_CHANNELS, FIRST_CHANNELS, [3], 1, False, "relu", momentum)
        blocks = [
            UnifiedBlock(channels, out, stride, momentum, switchable_bn)
            for channels, (out, stride) in zip(macro.in_channels, macro.layers)
        ]
        self.stages: Any = nn.ModuleList(blocks)
        self.last_stage = ConvBN(macro.layers[-1][0], LAST_CHANNELS, 1, 1, momentum)
        self.classifier = nn.Linear(LAST_CHANNELS, classes)
        init_module(self, generator)
        for block in blocks:
            block.reset_parameters(generator)

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        """What comes before the searched layers."""
        x = x.contiguous(memory_format=torch.channels_last)
        return self.first_mb(relu6_(self.first(x)))

    def head(self, x: torch.Tensor) -> torch.Tensor:
        """What comes after them: logits."""
        return self.classifier(relu6_(self.last_stage(x)).mean((2, 3)))

    def forward(self, x: torch.Tensor, path: Ops) -> torch.Tensor:
        x = self.stem(x)
        for stage, ops in zip(self.stages, path):
            x = stage(x, ops)
        return self.head(x)


# -- files -----------------------------------------------------------------------------------------------------------


def save_supernet(folder: Path, supernet: Supernet, dataset: str, provenance: dict[str, Any] | None = None) -> None:
    """Write supernet.safetensors, and supernet.json: which network it is, what it was trained on (``provenance``)."""
    macro = supernet.macro
    about = {"schema": 1, "space": "sgnas", "macro": macro.name, "input_size": macro.input_size}
    save_weights(supernet, folder / "supernet.safetensors")
    form = {"classes": supernet.classes, "switchable_bn": supernet.switchable_bn}
    write_json(folder / "supernet.json", {**about, **form, "dataset": dataset, "provenance": provenance})


def load_supernet(
    path: Path, macro: Macro | None = None, classes: int = 0, switchable_bn: bool | None = None
) -> Supernet:
    """A supernet written by ``save_supernet`` (file or its folder), of the form that the file says (without a word on
    it: six normalisations). Raises UserError when it belongs to another space or data set, or is of the other form
    than ``switchable_bn`` where that is given.
    """
    path = path / "supernet.safetensors" if path.is_dir() else path
    about = read_json(path.with_suffix(".json"))
    numbers = ("input_size", "classes")
    whole = isinstance(about, dict) and about.get("space") == "sgnas" and isinstance(about.get("macro"), str)
    if not whole or not all(isinstance(about.get(n), int) and about[n] > 0 for n in numbers):
        raise UserError(f"{path} is no supernet of this paper; give supernet.safetensors of a search")
    own = macro_for(about["macro"], about["input_size"])
    if macro is not None and (own != macro or about["classes"] != classes):
        raise UserError(
            f"{path} is a supernet of the {own.name} structure at {own.input_size} pixels, {about['classes']} classes; "
            f"this run needs {macro.name} at {macro.input_size} pixels with {classes}"
        )
    switchable = about.get("switchable_bn", True)
    if switchable_bn is not None and switchable != switchable_bn:
        forms = {True: "six switchable normalisations", False: "one normalisation for all expansion rates"}
        raise UserError(
            f"{path} is a supernet with {forms[switchable]} per block; this run needs {forms[switchable_bn]} "
            f"(--{'' if switchable else 'no-'}switchable-bn takes this one)"
        )
    supernet = Supernet(own, about["classes"], switchable_bn=switchable)
    load_strict(supernet, load_tensors(path))
    return supernet
