"""Building the networks of this paper, reading architectures, and running a supernet on one architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.cli.errors import UserError
from common.spaces.architecture import load_architecture
from common.spaces.darts.network import Genotype, NetworkCIFAR, NetworkImageNet
from common.spaces.darts.supernet import Supernet
from common.spaces.nasbench201 import network as nasbench201
from papers.nsas.method.sampling import Cell, encode
from papers.nsas.network.architectures import CNN, PRIMITIVES, SIZES, Encoded

CIFAR_MEAN, CIFAR_STD = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
NB201_MEAN = tuple(v / 255 for v in (125.3, 123.0, 113.9))
NB201_STD = tuple(v / 255 for v in (63.0, 62.1, 66.7))
CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000, "digits": 10}
IMAGE_SIZE = {"cifar10": 32, "cifar100": 32, "imagenet": 224, "digits": 32}


class Named(NamedTuple):
    """A CNN architecture, encoded, with its names for files."""

    normal: Cell
    reduce: Cell

    def as_names(self) -> dict:
        return names_of((self.normal, self.reduce))


def names_of(architecture: tuple[Cell, Cell]) -> dict:
    """Plain lists for files."""
    return genotype_of(architecture).as_dict()


def genotype_of(architecture: tuple[Cell, Cell]) -> Genotype:
    """Genotype of two encoded cells."""
    normal, reduce = (tuple((PRIMITIVES[o], i) for o, i in cell) for cell in architecture)
    return Genotype(normal, (2, 3, 4, 5), reduce, (2, 3, 4, 5))


def load_cnn(name: str) -> Named:
    """A published cell by name, or an architecture file of space "darts". UserError in one line when malformed."""
    if name in CNN:
        return Named(*CNN[name])
    if not name.endswith(".json"):
        raise UserError(f"unknown architecture {name!r}; use a file or one of {', '.join(CNN)}")
    return cnn_of(load_architecture(name, "darts"), name)


def cnn_of(found, name: str) -> Named:
    """The architecture of a file's record; ``name`` is the file's, for messages. UserError when malformed."""
    return Named(*(_cell(name, kind, found) for kind in ("normal", "reduce")))


def _cell(name: str, kind: str, found) -> Cell:
    try:
        pairs = [(str(o), int(i)) for o, i in found[kind]]
        concat = [int(i) for i in found.get(f"{kind}_concat", [2, 3, 4, 5])]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{name}: the {kind} cell must be a list of eight [operation, input] pairs") from None
    if len(pairs) != 8:
        raise UserError(f"{name}: the {kind} cell has {len(pairs)} pairs; it needs 8 (two a node)")
    if concat != [2, 3, 4, 5]:
        raise UserError(f"{name}: the {kind} cell concatenates {concat}; this space always concatenates 2, 3, 4, 5")
    for slot, (operation, state) in enumerate(pairs):
        if operation not in PRIMITIVES:
            raise UserError(
                f"{name}: unknown operation {operation!r} ({kind}, pair {slot}); use {', '.join(PRIMITIVES)}"
            )
        if not 0 <= state <= slot // 2 + 1:
            raise UserError(
                f"{name}: pair {slot} of the {kind} cell reads state {state}, which comes later; "
                f"node {slot // 2} can read 0 to {slot // 2 + 1}"
            )
    return tuple((PRIMITIVES.index(o), i) for o, i in pairs)


def size_of(dataset: str, name: str, channels: int = 0, layers: int = 0) -> tuple[int, int]:
    """Initial channels and layers: as given, else the published ones (comparison cells on ImageNet: 48)."""
    published = SIZES.get(dataset, SIZES["cifar10"])
    width = 48 if dataset == "imagenet" and not name.startswith("Random_NSAS") else published[0]
    return channels or width, layers or published[1]


def build_derived(
    architecture: Named | Encoded, dataset: str, classes: int, channels: int, layers: int, auxiliary: bool
) -> NetworkCIFAR | NetworkImageNet:
    """The CIFAR or ImageNet network; its forward gives (logits, auxiliary logits or None)."""
    network = NetworkImageNet if dataset == "imagenet" else NetworkCIFAR
    return network(genotype_of(architecture), channels, classes, layers, auxiliary)


def build_supernet(channels: int, classes: int, layers: int) -> Supernet:
    """The DARTS-space search network."""
    return Supernet(channels, classes, layers)


def build_nb201_supernet(channels: int, cells: int, classes: int) -> nasbench201.Supernet:
    """The NAS-Bench-201 search network."""
    return nasbench201.Supernet(channels, cells, classes)


def build_nb201(code: str, channels: int = 16, cells: int = 5, classes: int = 10) -> nasbench201.Network:
    """The benchmark's network of one cell."""
    return nasbench201.Network([int(c) for c in code], channels, cells, classes)


def mixed(tables: Sequence[Tensor], kind: str) -> tuple[Tensor, Tensor]:
    """Weights of all operations from tables [14, 8]: as they are ("raw") or a softmax of each row ("softmax")."""
    normal, reduce = tables
    return (normal.softmax(-1), reduce.softmax(-1)) if kind == "softmax" else (normal, reduce)


def table_logits(model: nn.Module, x: Tensor, architecture: tuple[Cell, Cell]) -> Tensor:
    """Softmax of the 0/1 tables: every operation runs (the released form of 2019/20)."""
    return model(x, mixed([torch.from_numpy(encode(cell)).to(x.device) for cell in architecture], "softmax"))


def code_logits(model: nasbench201.Supernet, x: Tensor, code: Sequence[int]) -> Tensor:
    """NAS-Bench-201 supernet on one cell; -1 is an edge that is not there, which adds as little as ``none``."""
    return model.path(x, [max(0, int(k)) for k in code])


def weighted_logits(model: nasbench201.Supernet, x: Tensor, weights: Tensor, index) -> Tensor:
    """NAS-Bench-201 supernet with straight-through weights [6, 5]."""
    return model.path(x, [int(i) for i in index], weights)


def norms_of(model: nn.Module) -> list[nn.Module]:
    """Batch norms of a network, in order."""
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@torch.no_grad()
def renew_statistics(model: nn.Module, forward: Callable[[Tensor], object], train, batches: int) -> None:
    """Batch-norm statistics under ``forward``: plain average over the first ``batches`` training batches."""
    norms = norms_of(model)
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
    model.train()
    for number, (x, _) in enumerate(train.epoch(0)):
        if number == batches:
            break
        forward(x)
    for m, momentum in zip(norms, momenta):
        m.momentum = momentum
