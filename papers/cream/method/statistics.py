"""Running statistics of batch normalisation in a search step, where every share of the batch runs several times.

The one rule of all trainings: after a step they are the mean, weighted by images, over what each share made of the
statistics before the step. Here a share runs many times in a step (board images, teacher, student, meta update), and
the shares take turns, so each has statistics of its own until the step ends. In the original every GPU kept its own
for the whole run.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.train import distributed
from papers.cream.network.architectures import Path
from papers.cream.network.networks import Supernet


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

    def run(self, share: int, images: Tensor, path: Path) -> Tensor:
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
                parts = [own[layer][kind].double() * w for own, w in zip(self.own, self.weights)]
                means.append(torch.stack(parts).sum(0))
        distributed.all_reduce_mean(means)
        for place, layer in enumerate(layers):
            counted = self.own[0][layer][2]
            _put(layer, [*means[2 * place : 2 * place + 2], counted])
        self.before, self.own = {}, [{} for _ in self.weights]


def _buffers(layer: nn.BatchNorm2d) -> list[Tensor]:
    return [layer.running_mean, layer.running_var, layer.num_batches_tracked]  # type: ignore[list-item]


def _put(layer: nn.BatchNorm2d, values: list[Tensor]) -> None:
    for buffer, value in zip(_buffers(layer), values, strict=True):
        buffer.data.copy_(value)  # .data: graphs of earlier forwards hold the buffer and must not take note
