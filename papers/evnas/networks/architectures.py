"""Published cells as data, the networks they become, and the constants of EvNAS's data.

The cells are those of the authors' README, and DARTS's for comparison: pairs (operation, input state), two per node.
"""

from __future__ import annotations

from common.data import names
from common.spaces.darts.genotype import CONCAT, Genotype
from common.spaces.darts.genotype import load_genotype as load_any
from common.spaces.darts.network import NetworkCIFAR, NetworkImageNet, derived

CLASSES = {name: names.CLASSES[name] for name in ("cifar10", "cifar100", "imagenet", "digits")}  # that describe knows
MEAN_STD: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
SHORT = {
    "s3": "sep_conv_3x3", "s5": "sep_conv_5x5", "d3": "dil_conv_3x3", "d5": "dil_conv_5x5",
    "mp": "max_pool_3x3", "ap": "avg_pool_3x3", "sk": "skip_connect",
}  # fmt: skip


def _cells(normal: str, reduce: str) -> Genotype:
    """ "s3 0 s3 1 …" twice -> a genotype."""
    words = [cell.split() for cell in (normal, reduce)]
    pairs = [tuple((SHORT[op], int(state)) for op, state in zip(w[::2], w[1::2], strict=True)) for w in words]
    return Genotype(pairs[0], CONCAT, pairs[1], CONCAT)


PUBLISHED: dict[str, Genotype] = {
    "EvNASA": _cells("s3 0 s3 1  s5 2 s3 1  sk 0 sk 2  d5 3 s3 1", "d5 1 ap 0  s3 0 ap 2  sk 1 sk 2  sk 1 s5 0"),
    "EvNASB": _cells("s5 0 s3 1  s5 2 mp 0  s3 0 s3 1  sk 0 s5 2", "sk 1 mp 0  mp 0 ap 1  sk 2 ap 3  s5 2 s5 0"),
    "EvNASC": _cells("sk 0 s3 1  sk 2 s5 1  mp 1 s3 0  s3 0 s5 3", "s5 1 d3 0  s5 0 sk 1  mp 0 mp 1  mp 0 mp 2"),
    "DARTS_V1": _cells("s3 1 s3 0  sk 0 s3 1  sk 0 s3 1  s3 0 sk 2", "mp 0 mp 1  sk 2 mp 0  mp 0 sk 2  sk 2 ap 0"),
    "DARTS_V2": _cells("s3 0 s3 1  s3 0 s3 1  s3 1 sk 0  sk 0 d3 2", "mp 0 mp 1  sk 2 mp 1  mp 0 sk 2  sk 2 mp 1"),
}


def constants(dataset: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of a set; CIFAR-10's for sets the paper does not have."""
    return MEAN_STD.get(dataset, MEAN_STD["cifar10"])


def load_genotype(name: str) -> Genotype:
    """A published cell by name, or an architecture file of space "darts". Raises UserError."""
    return load_any(name, PUBLISHED)


def build(
    genotype: Genotype, imagenet: bool, classes: int, channels: int = 0, layers: int = 0, auxiliary: bool = False
) -> NetworkCIFAR | NetworkImageNet:
    """The network of a genotype; 0 means the published width (36, for ImageNet 48) and depth (20 or 14)."""
    width, depth = (48, 14) if imagenet else (36, 20)
    return derived(genotype, imagenet, classes, channels or width, layers or depth, auxiliary)
