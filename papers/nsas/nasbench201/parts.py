"""What both searches on NAS-Bench-201 share: data, losses of a step, which operations move, the end of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common.cli.errors import UserError
from common.data.augment import Augmentation
from common.data.batches import Batches
from common.data.nasbench201 import DATASETS, Table, release_1_0, to_string
from common.data.parts import benchmark_halves, take
from common.data.sets import open_images
from common.spaces.architecture import save_architecture
from common.spaces.nasbench201.graph import connected
from common.spaces.nasbench201.network import SearchCell, Supernet
from common.spaces.sizes import check_pixels
from common.train.optim import zero_fill_grads
from papers.nsas.nasbench201 import constraints as c201
from papers.nsas.network.networks import NB201_MEAN, NB201_STD, code_logits

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

Code = tuple[int, ...]


def term_weights(kind: str, number: int) -> list[float]:
    """RandomNAS: weights of the current cell and of each constraint."""
    if kind == "none":
        return [1.0]
    if kind == "low":
        return [0.8, 0.2]
    if kind == "nsas" and number >= 3:
        return [0.8] + [0.2 / number] * number
    return [0.2, 0.4, 0.4]


def live_loss(
    model: nn.Module, x: Tensor, y: Tensor, codes: Sequence[Code], weights: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """(sum_i w_i CE(a_i), logits of the last), current first; gradient through every term, each moves statistics."""
    total, logits = x.new_zeros(()), x
    for code, weight in zip(codes, weights):
        logits = code_logits(model, x, code)
        term = weight * nn.functional.cross_entropy(logits, y)
        term.backward()
        total = total + term.detach()
    return total, logits.detach()


def constant_loss(
    model: nn.Module, x: Tensor, y: Tensor, codes: Sequence[Code], weights: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """The same value with gradient through the current cell only (what the DARTS-space loop does)."""
    total, logits = x.new_zeros(()), x
    for number, (code, weight) in enumerate(zip(codes, weights)):
        with torch.set_grad_enabled(number == 0):
            logits = code_logits(model, x, code)
            term = weight * nn.functional.cross_entropy(logits, y)
        if number == 0:
            term.backward()
        total = total + term.detach()
    return total, logits.detach()


class Touched:
    """The operations that have ever been in a backward pass; old ``zero_grad`` kept their gradients, as zeros.

    So they go on moving by momentum and decay in every step, also those that only a ``none`` edge read (their gradient
    is zero) and those that only an architecture step has used.
    """

    def __init__(self, model: Supernet) -> None:
        self.operations: dict[tuple[int, int], list[nn.Parameter]] = {}
        cells = [cell for cell in model.cells if isinstance(cell, SearchCell)]
        inside: set[int] = set()
        for edge in range(c201.EDGES):
            for operation in range(c201.OPERATIONS):
                found = [p for cell in cells for p in cell._edges[edge][operation].parameters()]
                self.operations[edge, operation] = found
                inside |= {id(p) for p in found}
        self.always = [p for p in model.parameters() if id(p) not in inside]
        self.seen: set[tuple[int, int]] = set()

    def note(self, *codes: Sequence[int]) -> None:
        """Cells whose loss was differentiated."""
        for code in codes:
            self.seen |= {(edge, int(code[edge])) for edge in c201.read_edges(code)}

    def fill(self) -> None:
        """Zeros where one of them has no gradient; call it between the backward pass and the clip."""
        zero_fill_grads(self.always)
        for key in self.seen:
            zero_fill_grads(self.operations[key])

    def state(self) -> list[list[int]]:
        """Plain lists for a run state."""
        return [list(key) for key in sorted(self.seen)]

    def restore(self, state: list[list[int]]) -> None:
        """Inverse of :meth:`state`."""
        self.seen = {(edge, operation) for edge, operation in state}


def drawer(rng) -> Callable[[], int]:
    """Uniform operation numbers."""
    return lambda: int(rng.randint(c201.OPERATIONS))


def make_sgd(parameters, settings) -> torch.optim.Optimizer:
    """Nesterov SGD."""
    return torch.optim.SGD(
        list(parameters), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay,
        nesterov=True,
    )  # fmt: skip


def open_halves(settings, options: RunOptions, device: torch.device, valid_transform: str):
    """Two halves of the training set (the benchmark's split on CIFAR-10), flip then crop, this space's constants."""
    images = open_images(settings.dataset, "train", options)
    check_pixels(settings.dataset, images.size)
    images = take(images, settings.train_images, "--train-images")
    first, second, origin = benchmark_halves(images, options.seed)
    second = take(second, getattr(settings, "select_images", 0), "--select-images")
    digits = images.name == "digits"
    augmentation = Augmentation(NB201_MEAN, NB201_STD, pad=2 if digits else 4, flip=not digits, order="flip_crop")
    train = Batches(first, settings.batch_size, augmentation, options.seed, device=device)
    gdas = valid_transform == "train"
    size = settings.batch_size if gdas else min(settings.select_batch_size, len(second))
    valid = Batches(
        second,
        size,
        augmentation,
        options.seed,
        shuffle=gdas,
        augment=gdas,
        device=device,
        stream="valid",
    )
    return train, valid, images.pins, f"halves: {origin}"


def finish(run, code: Code, metrics: dict, options: RunOptions, note: str, name: str) -> dict:
    """Write the cell and, for a set of the tables where they are at hand, its accuracy there after 200 epochs.

    A cell found on another set is looked up nowhere: CIFAR-10's value would not be this run's result.
    """
    text = to_string(code)
    if name in DATASETS:
        try:
            table = Table.open(options)
            metrics["test_accuracy_percent"] = table.lookup(code, name, "test")
            metrics["rank_among_15625"] = table.rank(code, name, "test")
        except UserError:
            note += "; NAS-Bench-201 tables absent, no accuracy looked up"
        if name == "cifar10":  # the published results are looked up in release 1.0, the tables hold 1.1
            with contextlib.suppress(UserError):
                metrics["test_accuracy_v1_0_percent"] = release_1_0(options)["".join(map(str, code))]
    else:
        note += f"; NAS-Bench-201 has no accuracies on {name}"
    save_architecture(run.folder / "architecture.json", "nasbench201", text, {**run.origin, "dataset": name})
    if not connected(code):
        note += "; no path leads from the cell's input to its output"
    return run.finish({"metrics": metrics, "architecture": text, "note": note})
