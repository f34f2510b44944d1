"""What the searches on NAS-Bench-201 and the experiment open: two halves, a supernet, the operations that move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common.data.augment import Augmentation
from common.data.batches import Batches, Order, as_they_stand
from common.data.parts import benchmark_halves, take
from common.data.sets import Images, open_images
from common.run import distributed
from common.spaces.nasbench201.network import EDGES, OPERATIONS, Network, SearchCell, Supernet
from common.spaces.sizes import check_pixels
from common.train.optim import zero_fill_grads
from papers.nsas.nasbench201.constraints import read_edges
from papers.nsas.nasbench201.settings import SupernetTraining

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

NB201_MEAN = tuple(v / 255 for v in (125.3, 123.0, 113.9))
NB201_STD = tuple(v / 255 for v in (63.0, 62.1, 66.7))


def build_nb201_supernet(channels: int, cells: int, classes: int) -> Supernet:
    """The NAS-Bench-201 search network."""
    return Supernet(channels, cells, classes)


def build_nb201(code: str, channels: int = 16, cells: int = 5, classes: int = 10) -> Network:
    """The benchmark's network of one cell."""
    return Network([int(c) for c in code], channels, cells, classes)


def code_logits(model: Supernet, x: Tensor, code: Sequence[int]) -> Tensor:
    """NAS-Bench-201 supernet on one cell; -1 is an edge that is not there, which adds as little as ``none``."""
    return model.path(x, [max(0, int(k)) for k in code])


def weighted_logits(model: Supernet, x: Tensor, weights: Tensor, index) -> Tensor:
    """NAS-Bench-201 supernet with straight-through weights [6, 5]."""
    return model.path(x, [int(i) for i in index], weights)


def open_halves(dataset: str, train_images: int, options: RunOptions) -> tuple[Images, Images, str]:
    """(images for the weights, images of the other half, where the halves are from): the benchmark's on CIFAR-10.

    Raises UserError for pictures that the network does not take, or halves that lack a class.
    """
    images = open_images(dataset, "train", options)
    check_pixels(dataset, images.size)
    first, second, origin = benchmark_halves(take(images, train_images, "--train-images"), options.seed)
    return first, second, f"halves: {origin}"


def batches_of(images: Images, size: int, order: Order, device: torch.device) -> Batches:
    """Batches with this space's constants, flip before crop; images that come as they stand are not augmented."""
    augmentation = Augmentation(NB201_MEAN, NB201_STD, pad=4, flip=True, order="flip_crop").on(images.name)
    return Batches(images, size, augmentation, order, distributed.per_process(), device=device)


def scoring_batches(images: Images, size: int, options: RunOptions, device: torch.device) -> Batches:
    """Batches of the other half that cells are scored on: in order, as they are."""
    size = min(size, len(images))
    return batches_of(images, size, as_they_stand(options.seed, "valid"), device)


def open_supernet(
    settings: SupernetTraining, classes: int, device: torch.device
) -> tuple[Supernet, torch.optim.Optimizer, Touched]:
    """(the supernet, Nesterov SGD on its weights, the record of the operations that move)."""
    supernet = build_nb201_supernet(settings.channels, settings.cells, classes).to(device)
    optimizer = make_sgd(supernet, settings.lr, settings.momentum, settings.weight_decay)
    return supernet, optimizer, Touched(supernet)


def make_sgd(model: nn.Module, lr: float, momentum: float, weight_decay: float) -> torch.optim.Optimizer:
    """Nesterov SGD."""
    return torch.optim.SGD(model.parameters(), lr, momentum=momentum, weight_decay=weight_decay, nesterov=True)


class Touched:
    """The operations that have ever been in a backward pass; old ``zero_grad`` kept their gradients, as zeros.

    So they go on moving by momentum and decay in every step, also those that only a ``none`` edge read (their gradient
    is zero) and those that only an architecture step has used.
    """

    def __init__(self, model: Supernet) -> None:
        self.operations: dict[tuple[int, int], list[nn.Parameter]] = {}
        cells = [cell for cell in model.cells if isinstance(cell, SearchCell)]
        inside: set[int] = set()
        for edge in range(len(EDGES)):
            for operation in range(len(OPERATIONS)):
                found = [p for cell in cells for p in cell._edges[edge][operation].parameters()]
                self.operations[edge, operation] = found
                inside |= {id(p) for p in found}
        self.always = [p for p in model.parameters() if id(p) not in inside]
        self.seen: set[tuple[int, int]] = set()

    def fill(self, *codes: Sequence[int]) -> None:
        """Notes the cells whose loss was differentiated, and puts zeros where a touched operation has no gradient:
        between the backward pass and the clip.
        """
        self.note(*codes)
        zero_fill_grads(self.always)
        for key in self.seen:
            zero_fill_grads(self.operations[key])

    def note(self, *codes: Sequence[int]) -> None:
        """Cells whose loss was differentiated."""
        for code in codes:
            self.seen |= {(edge, int(code[edge])) for edge in read_edges(code)}

    def state_dict(self) -> dict[str, list[tuple[int, int]]]:
        """(edge, operation) of the touched ones."""
        return {"seen": sorted(self.seen)}

    def load_state_dict(self, state: dict[str, list[tuple[int, int]]]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.seen = set(state["seen"])
