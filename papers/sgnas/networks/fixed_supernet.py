"""The supernet as a fixed function, for everything after its training: generator training, validation, evolution.

Nothing here needs a gradient with respect to weights, so every evaluation-mode normalisation is folded into the
convolution in front of it once. Gradients flow to the architecture parameters only (Method 5).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from common.train.batchnorm import fold as fold_bn
from common.train.batchnorm import scale_and_shift
from papers.sgnas.networks.architectures import KERNEL_SIZES, SKIP, SUB_BLOCKS, THRESHOLD, Ops
from papers.sgnas.networks.derived import fold
from papers.sgnas.networks.layers import relu6_
from papers.sgnas.networks.supernet import Supernet, UnifiedBlock


class FixedBlock:
    """One searched layer with folded weights."""

    @torch.no_grad()
    def __init__(self, block: UnifiedBlock) -> None:
        self.channels, self.stride, self.residual = block.channels, block.stride, block.residual
        self.rows = block.rows
        self.expand = fold_bn(block.expand, block.expand_bn)
        self.depthwise = [fold_bn(weight, bn) for weight, bn in zip(block.depthwise, block.depthwise_bn)]
        plain = block.project.detach()
        norms = [
            (plain * scale.view(-1, 1, 1, 1), shift) for scale, shift in zip(*scale_and_shift(block.switchable_bn))
        ]
        self.project = [norms[block.norm(skipped)] for skipped in range(SUB_BLOCKS)]
        self.project.append((plain, plain.new_zeros(len(plain))))  # all six skipped: no normalisation

    def _depthwise(self, y: torch.Tensor, k: int, rows: torch.Tensor | None) -> torch.Tensor:
        weight, bias = self.depthwise[k]
        if rows is not None:
            weight, bias = weight[rows], bias[rows]
        size = KERNEL_SIZES[k]
        return relu6_(functional.conv2d(y, weight, bias, self.stride, size // 2, groups=len(weight)))

    def path(self, x: torch.Tensor, ops: Sequence[int]) -> torch.Tensor:
        """Single path, evaluation mode."""
        hidden, columns = [], []
        for k in range(len(KERNEL_SIZES)):
            blocks = [i for i, op in enumerate(ops) if op == k]
            if blocks:
                rows = self.rows(blocks)
                y = relu6_(functional.conv2d(x, self.expand[0][rows], self.expand[1][rows]))
                hidden.append(self._depthwise(y, k, rows))
                columns.append(rows)
        weight, bias = self.project[sum(op == SKIP for op in ops)]
        y = functional.conv2d(torch.cat(hidden, 1), weight[:, torch.cat(columns)], bias)
        return x + y if self.residual else y

    def soft(self, x: torch.Tensor, p: torch.Tensor, active: list[list[int]], skipped: int) -> torch.Tensor:
        """Sum over kernels of p k-branch, per sub-block; p [6, 4]; operations that are not ``active`` are not run."""
        y = relu6_(functional.conv2d(x, *self.expand))
        total = None
        for k in range(len(KERNEL_SIZES)):
            blocks = [i for i in range(SUB_BLOCKS) if active[i][k]]
            if not blocks:
                continue
            whole = len(blocks) == SUB_BLOCKS
            rows = None if whole else self.rows(blocks)
            out = self._depthwise(y if rows is None else y.index_select(1, rows), k, rows)
            weights = p[:, k] if whole else p[blocks, k]
            out = out * weights.repeat_interleave(self.channels).view(1, -1, 1, 1)
            if rows is not None:
                empty = out.new_zeros(out.shape[0], SUB_BLOCKS * self.channels, *out.shape[2:])
                out = empty.to(memory_format=torch.channels_last).index_copy(1, rows, out)
            total = out if total is None else total + out
        weight, bias = self.project[skipped]
        if total is None:
            y = bias.view(1, -1, 1, 1).expand(x.shape[0], -1, *[-(-n // self.stride) for n in x.shape[2:]])
        else:
            y = functional.conv2d(total, weight, bias)
        return x + y if self.residual else y


class FixedSupernet:
    """A supernet's evaluation-mode function, with its weights as they are now."""

    def __init__(self, supernet: Supernet) -> None:
        self.macro, self.classes = supernet.macro, supernet.classes
        with torch.no_grad():
            self.blocks = [FixedBlock(stage) for stage in supernet.stages]
            shell = copy.copy(supernet)
            shell._modules = {name: part for name, part in supernet._modules.items() if name != "stages"}
            self.shell: Any = fold(shell)
            self.shell.eval().requires_grad_(False)

    def path(self, x: torch.Tensor, path: Ops) -> torch.Tensor:
        """Logits of a single path (or of one-hot architecture parameters)."""
        x = self.shell.stem(x)
        for block, ops in zip(self.blocks, path):
            x = block.path(x, ops)
        return self.shell.head(x)

    def soft(self, x: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """Logits for architecture parameters p [L, 6, 4].

        Operations with p <= 0.01 are not run and get no gradient. The normalisation is number round(sum of p_skip),
        rounded half to even, without gradient; p_skip itself gets none from here, as its branch is zero.
        """
        p_now = p.detach()
        told = torch.cat(
            [(p_now > THRESHOLD).flatten(1).int(), p_now[..., SKIP].sum(-1, keepdim=True).round().int()], 1
        )
        rows, operations = told.tolist(), p.shape[-1]  # what runs depends on p: the one wait for the device
        active = [[row[i : i + operations] for i in range(0, len(row) - 1, operations)] for row in rows]
        with torch.no_grad():
            x = self.shell.stem(x)
        for block, weights, run, row in zip(self.blocks, p, active, rows):
            x = block.soft(x, weights, run, row[-1])
        return self.shell.head(x)
