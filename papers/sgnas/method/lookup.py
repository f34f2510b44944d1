"""The cost F(p) of architecture parameters p from look-up tables of multiply-adds or latency, and the hardware loss.

Method 6. F is differentiable in p; for one-hot p it is exactly the number of convolution multiply-adds of the derived
network without squeeze-excite, in millions.

Shapes: p is float32 [..., L, 6, 4] (layer, sub-block, operation; operation 3 is skip).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError
from common.run.files import read_json
from papers.sgnas.networks.architectures import (
    FIRST_CHANNELS,
    KERNEL_SIZES,
    LAST_CHANNELS,
    SKIP,
    STEM_CHANNELS,
    SUB_BLOCKS,
    THRESHOLD,
    Macro,
    Ops,
)

TABLES = ("depthwise", "expand", "project")
MFLOPS = "MFLOPs"  # the paper's word for millions of multiply-adds
MARGIN = 0.1  # MFLOPs within which a target counts as met


@dataclass(frozen=True)
class Lookup:
    """base: fixed cost. depthwise: [L, 3] cost of one sub-block. expand, project: [L] of all six sub-blocks.

    unit: MFLOPs (millions of multiply-adds) or ms.
    """

    base: float
    depthwise: torch.Tensor
    expand: torch.Tensor
    project: torch.Tensor
    unit: str = MFLOPS

    def fingerprint(self) -> str:
        """Short hash of all entries: a prior pool belongs to one table."""
        digest = hashlib.sha256(self.unit.encode())
        digest.update(repr(round(self.base, 6)).encode())
        for table in (self.depthwise, self.expand, self.project):
            digest.update(repr([round(value, 6) for value in table.flatten().tolist()]).encode())
        return digest.hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain values, as ``lookup_from`` reads them."""
        tables = {name: getattr(self, name).tolist() for name in TABLES}
        return {"unit": self.unit, "base": self.base, **tables}

    def to(self, device: torch.device | str) -> Lookup:
        """The same tables on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in TABLES})

    def cost(self, p: torch.Tensor) -> torch.Tensor:
        """F(p) [...] for p [..., L, 6, 4].

        F = base + sum_l [ D_l + (1 - z_l) A_l 1(z_l < 5/6) + (1 - z_l) B_l ]
        with z_l the skipped share, D_l = sum p d over entries above the threshold, A_l = ``expand``, B_l = ``project``.
        """
        skipped = p[..., SKIP] / SUB_BLOCKS
        share = skipped[..., 0]
        for block in range(1, SUB_BLOCKS):  # one after the other: the published float32 rounding
            share = share + skipped[..., block]
        run = torch.where(p > THRESHOLD, p, torch.zeros_like(p))[..., :SKIP]
        depthwise = (run.sum(-2) * self.depthwise).sum(-1)
        # With one sub-block left there is no expansion convolution. Five skips add up to 5/6 only to rounding.
        expands = (share.detach() < 5 / 6 - 1e-6).to(p.dtype)
        kept = 1 - share
        return self.base + (depthwise + kept * self.expand * expands + kept * self.project).sum(-1)


def macs_table(macro: Macro) -> Lookup:
    """The published table: millions of multiply-adds of convolutions; normalisation, linear layer, SE not counted.

    With input side h, output side h' of a layer, c and c' channels: d_k = c k^2 h'^2, A = 6 c^2 h^2, B = 6 c c' h'^2.
    """
    size = -(-macro.input_size // macro.stem_stride)
    fixed = size * size * (27 * STEM_CHANNELS + 9 * STEM_CHANNELS + STEM_CHANNELS * FIRST_CHANNELS)
    fixed += macro.last_channels * LAST_CHANNELS * macro.last_size**2
    depthwise, expand, project = [], [], []
    for c, (out, stride) in zip(macro.in_channels, macro.layers):
        conv_size = -(-size // stride)
        next_size = size // stride if macro.halves_down else conv_size
        depthwise.append([c * k * k * conv_size**2 / 1e6 for k in KERNEL_SIZES])
        expand.append(size**2 * c * SUB_BLOCKS * c / 1e6)
        project.append(next_size**2 * SUB_BLOCKS * c * out / 1e6)
        size = next_size
    return Lookup(fixed / 1e6, torch.tensor(depthwise), torch.tensor(expand), torch.tensor(project))


def lookup_from(content: dict[str, Any]) -> Lookup:
    """A look-up table from its plain values. Raises KeyError, TypeError, ValueError for others."""
    tables = {name: torch.tensor(content[name], dtype=torch.float32) for name in TABLES}
    return Lookup(base=float(content["base"]), unit=content["unit"], **tables)


def read_latency_table(path: Path, macro: Macro) -> Lookup:
    """A table written by the ``latency`` verb. Raises UserError when it is for another structure."""
    content = read_json(path)
    try:
        made_for = (content["macro"], content["input_size"])
        lookup = lookup_from(content)
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path} is no latency table; measure one with: python -m papers.sgnas latency") from None
    if made_for != (macro.name, macro.input_size) or len(lookup.expand) != len(macro.layers):
        raise UserError(
            f"{path} was measured for the {made_for[0]} structure at {made_for[1]} pixels; needed: {macro.name} at "
            f"{macro.input_size}"
        )
    return lookup


def one_hot(ops: torch.Tensor) -> torch.Tensor:
    """Operation indices int64 [..., L, 6] -> p float32 [..., L, 6, 4]."""
    return torch.nn.functional.one_hot(ops, 4).float()


def cost_of_ops(lookup: Lookup, ops: Ops | torch.Tensor) -> float:
    """Cost of one architecture given by operation indices [L][6]."""
    return float(lookup.cost(one_hot(torch.as_tensor(ops)).to(lookup.depthwise.device)))


def cost_range(lookup: Lookup) -> tuple[float, float]:
    """The cheapest (one 3x3 per layer) and the dearest (six 7x7) network of the space."""
    layers = len(lookup.expand)
    cheapest = [[0] + [SKIP] * (SUB_BLOCKS - 1)] * layers
    return cost_of_ops(lookup, cheapest), cost_of_ops(lookup, [[2] * SUB_BLOCKS] * layers)


def hardware_loss(
    generated: torch.Tensor,
    target: torch.Tensor | float,
    alpha: float = 0.0003,
    penalty: float = 1.2,
    margin: float = MARGIN,
) -> torch.Tensor:
    """L_hc with d = F(p) - t: alpha penalty d^2 if F > t + 0.1; alpha d^2 if F < t - 0.1; else 0. Any shape."""
    target = torch.as_tensor(target, device=generated.device, dtype=generated.dtype)
    over, under = generated > target + margin, generated < target - margin  # compared so: t + 0.1 itself counts as met
    weight = torch.where(over, alpha * penalty, torch.where(under, alpha, 0.0))
    return weight * (generated - target) ** 2
