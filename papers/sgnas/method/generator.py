"""The architecture generator (Method 5): target and prior in, architecture parameters out.

Everything is batched: N targets give N architectures in one forward pass.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from papers.sgnas.networks.architectures import OPS, SKIP, SUB_BLOCKS
from papers.sgnas.networks.layers import init_module

CONSTRAINT_CHANNELS, WIDTH, LAYERS = 10, 32, 5


class _Conv(nn.Module):
    """3x3 convolution without bias, then ReLU; named ``conv`` as in the published file."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.conv(x))


class Generator(nn.Module):
    """Normalised targets [N] and prior [L, 24] or [N, L, 24] -> logits [N, L, 6, 4]; 67,969 parameters as published.

    a = c(c(c(target image))), b = c(c(prior)), s = a + b, logits = tail(body(head(s)) + s).
    """

    def __init__(
        self,
        constraint_channels: int = CONSTRAINT_CHANNELS,
        width: int = WIDTH,
        layers: int = LAYERS,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.shape = {"constraint_channels": constraint_channels, "width": width, "layers": layers}
        self.hc_head = nn.Sequential(_Conv(constraint_channels, width), _Conv(width, width), _Conv(width, width))
        self.bb_head = nn.Sequential(_Conv(1, width), _Conv(width, width))
        self.head = _Conv(width, width)
        self.body = nn.Sequential()
        for number in range(layers - 2):
            self.body.add_module(f"block{number + 1}", _Conv(width, width))
        self.tail = nn.Sequential(nn.Conv2d(width, 1, 3, padding=1))
        init_module(self, generator or torch.Generator().manual_seed(0))

    def forward(self, target: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        target = target.reshape(-1)
        layers, columns = prior.shape[-2:]
        image = target.view(-1, 1, 1, 1).expand(-1, self.shape["constraint_channels"], layers, columns)
        known = self.bb_head(prior.reshape(-1, 1, layers, columns))
        s = self.hc_head(image) + known
        out = self.tail(self.body(self.head(s)) + s)
        return out.reshape(-1, layers, SUB_BLOCKS, OPS)


def normalise(target: torch.Tensor | float, low: float, high: float) -> torch.Tensor:
    """(t - low) / (high - low), not clipped."""
    return (torch.as_tensor(target, dtype=torch.float32) - low) / (high - low)


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """g = -log(-log U)."""
    uniform = torch.rand(shape, generator=generator).clamp_min_(torch.finfo(torch.float32).tiny)
    return -torch.log((-torch.log(uniform)).clamp_min_(torch.finfo(torch.float32).tiny))


def gumbel_softmax(logits: torch.Tensor, tau: float, noise: torch.Tensor) -> torch.Tensor:
    """p = softmax((logits + g) / tau) per sub-block, [..., L, 6, 4]; sub-block 0 may not skip, its last entry is 0."""
    return functional.softmax(_without_first_skip((logits + noise) / tau), -1)


def arg_max_ops(logits: torch.Tensor) -> torch.Tensor:
    """Operation indices int64 [..., L, 6] of the largest logits (sub-block 0: among the first three)."""
    return _without_first_skip(logits).argmax(-1)


def _without_first_skip(logits: torch.Tensor) -> torch.Tensor:
    blocked = torch.zeros(logits.shape[-2:], dtype=torch.bool, device=logits.device)
    blocked[0, SKIP] = True
    return logits.masked_fill(blocked, -torch.inf)
