"""From names and files to networks, and the constants of EvNAS's data."""

from __future__ import annotations

from pathlib import Path

from common.cli.errors import UserError
from common.cli.settings import suggestion
from common.spaces.architecture import load_architecture
from common.spaces.darts.network import Genotype, NetworkCIFAR, NetworkImageNet
from papers.evnas.architectures import PUBLISHED

CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000, "digits": 10}
MEAN_STD = {
    "cifar10": ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


def constants(dataset: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of a set; CIFAR-10's for sets the paper does not have."""
    return MEAN_STD.get(dataset, MEAN_STD["cifar10"])


def load_genotype(name: str) -> Genotype:
    """A published cell by name, or an architecture file of space "darts". Raises UserError."""
    if name in PUBLISHED:
        return Genotype.from_dict(PUBLISHED[name])
    if not name.endswith(".json"):
        raise UserError(
            f"unknown architecture {name!r}{suggestion(name, PUBLISHED)}; use a file made by search, or one of "
            f"{', '.join(PUBLISHED)}"
        )
    return Genotype.from_dict(load_architecture(Path(name), "darts"))


def build(
    genotype: Genotype, imagenet: bool, classes: int, channels: int = 0, layers: int = 0, auxiliary: bool = False
) -> NetworkCIFAR | NetworkImageNet:
    """The network of a genotype; 0 means the published width (36 or 48) and depth (20 or 14)."""
    if imagenet:
        return NetworkImageNet(genotype, channels or 48, classes, layers or 14, auxiliary)
    return NetworkCIFAR(genotype, channels or 36, classes, layers or 20, auxiliary)
