"""The student: the path of one iteration, on this process's shares of the batch (Method 8).

The one rule of all trainings for the running statistics of batch normalisation: after a step they are the mean,
weighted by images, over what each share made of the statistics before the step. Here a share runs many times in a step
(board images, teacher, student, meta update), and the shares take turns, so each has statistics of its own until the
step ends. In the original every GPU kept its own for the whole run.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.run import distributed
from common.run.device import exact
from papers.cream.method.path_sgd import PathSGD
from papers.cream.networks.architectures import ChoicePath
from papers.cream.networks.networks import Supernet


class ShareStatistics:
    """``run(share, images, path)`` is ``net(images, path)`` with the statistics of a share; ``finish`` joins them.

    weights: the part of the whole batch's images that each of this process's shares has, times the processes. One
    share in one process needs none of this: then both are the plain thing.
    """

    def __init__(self, net: Supernet, weights: list[float]) -> None:
        self.net, self.weights = net, weights
        self.own: list[dict[nn.BatchNorm2d, list[Tensor]]] = [{} for _ in weights]
        self.before: dict[nn.BatchNorm2d, list[Tensor]] = {}
        self.needed = len(weights) > 1 or distributed.world_size() > 1

    def run(self, share: int, images: Tensor, path: ChoicePath) -> Tensor:
        """Logits [B, classes] of a path, in the net's mode."""
        layers = self.net.path_norms(path) if self.needed and self.net.training else []
        for layer in layers:
            if layer not in self.before:
                self.before[layer] = [b.clone() for b in _buffers(layer)]
            _put(layer, self.own[share].get(layer, self.before[layer]))
        logits = self.net(images, path)
        for layer in layers:
            self.own[share][layer] = [b.clone() for b in _buffers(layer)]
        return logits

    @torch.no_grad()
    def finish(self) -> None:
        """Write the weighted mean over all shares of all processes into the net (a common act of all processes)."""
        layers = list(self.before)  # in the order of first use, which is the same everywhere
        means = []
        for layer in layers:
            for kind in (0, 1):
                parts = [own[layer][kind] for own in self.own]
                weighted = [part.to(exact(part.device)) * w for part, w in zip(parts, self.weights)]
                means.append(torch.stack(weighted).sum(0))
        distributed.all_reduce_mean(means)
        for place, layer in enumerate(layers):
            counted = self.own[0][layer][2]
            _put(layer, [*means[2 * place : 2 * place + 2], counted])
        self.before, self.own = {}, [{} for _ in self.weights]


class Student:
    """A path of the supernet, the optimiser that trains it, and this process's shares of the batch.

    shares: images [B, 3, H, W] and labels [B] of each; the supernet is in train mode. images: those of the whole batch,
    divided by the processes (0: those given). Idle steps that the path's weights and the meta layer have missed are
    made up for here (Method 7).
    """

    def __init__(
        self, supernet: Supernet, optimizer: PathSGD, path: ChoicePath, shares: list[tuple[Tensor, Tensor]],
        images: float = 0.0,
    ) -> None:  # fmt: skip
        self.supernet, self.optimizer, self.path, self.shares = supernet, optimizer, path, shares
        self.images = images or sum(len(labels) for _, labels in shares)
        self.weights = [len(labels) / self.images for _, labels in shares]
        self.statistics = ShareStatistics(supernet, self.weights)
        self.parameters, self.theta = supernet.path_parameters(path), supernet.meta_parameters()
        optimizer.catch_up(self.parameters + self.theta)

    def logits(self, share: int, images: Tensor) -> Tensor:
        """Logits [B, classes] of this path."""
        return self.statistics.run(share, images, self.path)

    @torch.no_grad()
    def taught(self, share: int, images: Tensor, teacher: ChoicePath) -> Tensor:
        """The teacher's probabilities [B, classes], q = softmax(z_teacher); its weights must be caught up."""
        return torch.softmax(self.statistics.run(share, images, teacher), 1)


def _buffers(layer: nn.BatchNorm2d) -> list[Tensor]:
    return [layer.running_mean, layer.running_var, layer.num_batches_tracked]  # type: ignore[list-item]


def _put(layer: nn.BatchNorm2d, values: list[Tensor]) -> None:
    for buffer, value in zip(_buffers(layer), values, strict=True):
        buffer.data.copy_(value)  # .data: graphs of earlier forwards hold the buffer and must not take note
