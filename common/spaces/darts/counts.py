"""What ``describe`` says of a derived network: its counts."""

from __future__ import annotations

import torch

from common.spaces.counting import macs_and_conv_macs, parameters
from common.spaces.darts.genotype import Genotype
from common.spaces.darts.network import derived


def counts(
    genotype: Genotype, imagenet: bool, classes: int, channels: int, layers: int, pixels: int, auxiliary: bool = True
) -> dict[str, int]:
    """Parameters without and with the auxiliary head; multiply-adds with the classifier, and of convolutions alone, for
    one square image of ``pixels``.
    """
    with torch.device("meta"):  # only shapes are counted
        network = derived(genotype, imagenet, classes, channels, layers, auxiliary)
    both, convolutions = macs_and_conv_macs(network, (3, pixels, pixels))
    return {
        "parameters": parameters(network), "parameters_with_auxiliary": parameters(network, exclude=()),
        "macs": both, "conv_macs": convolutions,
    }  # fmt: skip
