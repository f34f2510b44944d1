"""Building the networks of this paper, reading architectures, and running a supernet on one architecture."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from common.architecture import load_architecture
from common.errors import UserError
from papers.nsas.architectures import CNN, PRIMITIVES, SIZES, Encoded
from papers.nsas.darts_space import DerivedNetwork, Supernet
from papers.nsas.nb201_space import MacroNetwork
from papers.nsas.sampling import Cell, encode

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
    """Genotype of two encoded cells."""
    normal, reduce = ([[PRIMITIVES[o], i] for o, i in cell] for cell in architecture)
    return {"normal": normal, "normal_concat": [2, 3, 4, 5], "reduce": reduce, "reduce_concat": [2, 3, 4, 5]}


def load_cnn(name: str) -> Named:
    """A published cell by name, or an architecture file of space "darts". UserError in one line when malformed."""
    if name in CNN:
        return Named(*CNN[name])
    if not name.endswith(".json"):
        raise UserError(f"unknown architecture {name!r}; use a file or one of {', '.join(CNN)}")
    found = load_architecture(name, "darts")
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
) -> DerivedNetwork:
    """The CIFAR or ImageNet network."""
    return DerivedNetwork(Encoded(*architecture), classes, channels, layers, auxiliary, dataset == "imagenet")


def build_supernet(channels: int, classes: int, layers: int) -> Supernet:
    """The DARTS-space search network."""
    return Supernet(channels, classes, layers)


def build_nb201_supernet(channels: int, cells: int, classes: int) -> MacroNetwork:
    """The NAS-Bench-201 search network."""
    return MacroNetwork(channels, cells, classes)


def build_nb201(code: str, channels: int = 16, cells: int = 5, classes: int = 10) -> MacroNetwork:
    """The benchmark's network of one cell."""
    return MacroNetwork(channels, cells, classes, [int(c) for c in code])


def table_logits(model: Supernet, x: Tensor, architecture: tuple[Cell, Cell]) -> Tensor:
    """Softmax of the 0/1 tables: every operation runs (the released form of 2019/20)."""
    model.mixing = "softmax"
    tables = (torch.from_numpy(encode(cell)).to(x.device) for cell in architecture)
    return model(x, *tables)


def code_logits(model: MacroNetwork, x: Tensor, code) -> Tensor:
    """NAS-Bench-201 supernet on one cell."""
    return model(x, code)


def weighted_logits(model: MacroNetwork, x: Tensor, weights: Tensor, index) -> Tensor:
    """NAS-Bench-201 supernet with straight-through weights [6, 5]."""
    return model(x, [int(i) for i in index], weights)


def logits_of(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """(logits, auxiliary logits or None)."""
    return model(x)


def set_drop_path(model: DerivedNetwork, probability: float) -> None:
    """Drop-path of the epoch."""
    model.drop_path_prob = probability


def parameters(model: nn.Module) -> int:
    """The paper's count: names that contain "auxiliary" are left out."""
    return sum(p.numel() for n, p in model.named_parameters() if "auxiliary" not in n)


def macs(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-adds of convolutions and linear layers in eval mode, counted without computing (meta tensors)."""
    model = model.to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(shape, device="meta"))
    return counter.get_total_flops() // 2
