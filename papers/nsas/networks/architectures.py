"""Published architectures as data, read by name or from a file; the sizes of the networks that were made of them."""

from __future__ import annotations

from common.data import names
from common.spaces.darts.genotype import CONCAT, PRIMITIVES, Genotype
from common.spaces.darts.genotype import load_genotype as load_any
from papers.nsas.method.sampling import Architecture, cells_of

_SHORT = dict(zip(("none", "max", "avg", "skip", "sep3", "sep5", "dil3", "dil5"), PRIMITIVES, strict=True))


def _pairs(text: str) -> tuple[tuple[str, int], ...]:
    """ "sep5 1  dil3 0 ..." -> (operation, input) pairs."""
    words = text.split()
    return tuple((_SHORT[op], int(state)) for op, state in zip(words[::2], words[1::2], strict=True))


def _genotype(normal: str, reduce: str) -> Genotype:
    return Genotype(_pairs(normal), CONCAT, _pairs(reduce), CONCAT)


CNN: dict[str, Genotype] = {
    "Random_NSAS": _genotype(
        "sep5 1 dil3 0  dil3 1 sep3 0  sep5 1 avg 0  skip 0 none 1",
        "dil3 0 none 1  dil3 0 avg 1  dil5 2 dil5 3  none 0 sep3 3",
    ),
    "Random_NSAS_C": _genotype(
        "sep3 1 dil3 0  dil3 2 sep3 0  sep3 3 skip 0  sep3 0 dil5 4",
        "dil3 0 max 1  dil3 0 avg 2  dil3 0 sep3 3  avg 0 dil5 4",
    ),
    # comparison cells of the same repository
    "XNAS": _genotype(
        "sep3 1 skip 0  sep3 0 sep3 2  sep3 3 sep3 1  dil5 4 sep3 0",
        "max 0 avg 1  avg 0 skip 2  dil3 3 max 0  dil5 4 avg 0",
    ),
    "PC_DARTS_cifar": _genotype(
        "sep3 1 skip 0  sep3 0 dil3 1  sep5 0 sep3 1  avg 0 dil3 1",
        "sep5 1 max 0  sep5 1 sep5 2  sep3 0 sep3 3  sep3 1 sep3 2",
    ),
    "PC_DARTS_image": _genotype(
        "skip 1 sep3 0  sep3 0 skip 1  sep3 1 sep3 3  sep3 1 dil5 4",
        "sep3 0 skip 1  dil5 2 max 1  sep3 2 sep3 1  sep5 0 sep3 3",
    ),
    "PDARTS": _genotype(
        "skip 0 dil3 1  skip 0 sep3 1  sep3 1 sep3 3  sep3 0 dil5 4",
        "avg 0 sep5 1  sep3 0 dil5 2  max 0 dil3 1  dil3 1 dil5 3",
    ),
    "GDAS_v": _genotype(
        "sep3 1 sep3 0  sep3 2 skip 0  dil3 3 sep5 0  skip 0 dil3 4",
        "dil5 1 avg 0  avg 0 skip 2  max 0 max 3  max 0 dil3 4",
    ),
}

# cells whose supernet accuracy the 2019 notebook printed after every epoch
MONITORED: tuple[Architecture, ...] = tuple(
    cells_of(_genotype(normal, reduce))
    for normal, reduce in (
        (
            "none 0 dil5 1  none 0 dil3 1  none 0 dil5 3  skip 1 sep5 4",
            "sep5 0 dil5 1  dil3 0 sep3 1  skip 0 dil5 1  avg 4 sep3 2",
        ),
        (
            "dil3 0 dil3 1  skip 1 max 0  sep3 1 dil3 3  avg 4 dil5 0",
            "avg 1 sep5 0  dil5 2 max 0  dil5 1 max 3  sep5 3 max 0",
        ),
        (
            "avg 0 dil3 1  none 1 skip 2  avg 1 none 3  none 0 avg 3",
            "dil3 1 dil3 0  skip 0 none 1  sep3 2 none 0  max 4 sep5 3",
        ),
        (
            "dil5 0 dil3 1  sep3 1 sep5 0  avg 1 skip 2  sep5 2 dil5 0",
            "none 1 dil3 0  sep5 0 skip 2  dil3 3 sep5 1  dil3 3 skip 4",
        ),
    )
)

# cells stored in the notebooks of the NAS-Bench-201 searches: digits in edge order
NB201 = {
    "GDAS_NSAS": "330322",
    "GDAS_NSAS_3": "330322",
    "GDAS_NSAS_G": "330322",
    "GDAS_NSAS_R": "330332",
    "GDAS_compensation": "330323",
    "RandomNAS_NSAS": "310440",
    "RandomNAS_NSAS_3": "011441",
    "RandomNAS_NSAS_4": "344442",
    "RandomNAS_NSAS_5": "322141",
    "RandomNAS_NSAS_R": "202420",
    "RandomNAS_LoW": "034142",
    "RandomNAS_compensation": "344410",
}

# (initial channels, layers) of each published network; ImageNet comparison cells use 48 channels
SIZES = {"cifar10": (36, 20), "cifar100": (36, 20), "imagenet": (50, 14)}
IMAGE_SIZE = {"cifar10": 32, "cifar100": 32, "imagenet": 224, "digits": 32}
CLASSES = {name: names.CLASSES[name] for name in IMAGE_SIZE}


def load_genotype(name: str) -> Genotype:
    """A published cell by name, or an architecture file of space "darts". Raises UserError."""
    return load_any(name, CNN)


def size_of(dataset: str, name: str, channels: int = 0, layers: int = 0) -> tuple[int, int]:
    """Initial channels and layers: as given, else the published ones (comparison cells on ImageNet: 48)."""
    published = SIZES.get(dataset, SIZES["cifar10"])
    width = 48 if dataset == "imagenet" and not name.startswith("Random_NSAS") else published[0]
    return channels or width, layers or published[1]
