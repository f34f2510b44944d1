"""Batch normalisation folded into the convolution before it, for evaluation: same outputs, fewer passes over memory."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from papers.cream.network.networks import DerivedNetwork

PAIRS = {
    "DepthwiseSeparable": (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    "InvertedResidual": (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
    "ConvBnAct": (("conv", "bn1"),),
    "ResidualUnit": (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
    "DerivedNetwork": (("conv_stem", "bn1"),),
}


@torch.no_grad()
def folded(net: DerivedNetwork) -> DerivedNetwork:
    """A copy in eval mode with every batch normalisation folded away: w' = w g / sqrt(var + eps), b' likewise."""
    result = copy.deepcopy(net).eval()
    for module in result.modules():
        for conv, norm in PAIRS.get(type(module).__name__, ()):
            setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
            setattr(module, norm, nn.Identity())
    return result
