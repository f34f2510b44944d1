"""Parts of the method written a second time: batches, the cosine, one step, a training from scratch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.cli.verbs import RunOptions
from common.data.augment import Augmentation, draw, plain, transform
from common.data.sets import Images, open_images
from common.run import seeds
from papers.nao_v2.networks.operations import DropPath

KEPT = Augmentation((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768), pad=4, flip=True)


def pictures(split: str = "train") -> Images:
    """Digits under the name of CIFAR-10, whose recipe they get."""
    return replace(open_images("digits", split, RunOptions()), name="cifar10")


def batches(
    images: Images, size: int, seed: int, stream: str, epoch: int, cutout: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """An epoch in a new order: cropped from 40 pixels, mirrored, normalised, with a square cut out."""
    order = torch.randperm(len(images), generator=seeds.generator(seed, stream, "order", epoch))
    kept = replace(KEPT, cutout=cutout)
    for number, at in enumerate(order.split(size)):
        chance = seeds.generator(seed, stream, "augment", epoch, number)
        yield transform(images.pixels[at], kept, draw(kept, len(at), 32, 32, chance)), images.labels[at]


@torch.no_grad()
def errors_of(net: Any, images: Images) -> tuple[float, float, float]:
    """(loss, top-1 error, top-5 error) in percent, of all images as they are."""
    logits = net.eval()(plain(images.pixels, KEPT))
    best = logits.topk(5, 1).indices == images.labels[:, None]
    top = [100 * float(1 - best[:, :k].any(1).double().mean()) for k in (1, 5)]
    return float(F.cross_entropy(logits, images.labels)), top[0], top[1]


def cosine(high: float, low: float, epoch: int, epochs: int) -> float:
    """From high at epoch 0 to low at epoch ``epochs``."""
    return low + (high - low) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def descend(net: Any, sgd: Any, loss: Tensor, rate: float, clip: float, to_none: bool = True) -> None:
    """One step; the gradient is longer than ``clip``, so that this acts (but for the published 5)."""
    sgd.zero_grad(set_to_none=to_none)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
    assert norm > clip or clip == 5.0
    sgd.param_groups[0]["lr"] = rate
    sgd.step()


@dataclass
class Alone:
    """A training from scratch. rates: of every epoch; ramp: steps until all paths are dropped as asked for."""

    rates: list[float]
    momentum: float
    decay: float
    clip: float
    keep: float
    ramp: int
    batch: int
    auxiliary: float = 0.4
    smoothing: float = 0.0
    cutout: int = 0

    def epochs(self, net: Any, images: Images, seed: int, stream: str) -> Iterator[tuple[float, float]]:
        """(mean loss, error in percent) of every epoch of training."""
        net.drop_path, taken = DropPath(self.keep, self.ramp, net.cells_total), 0
        sgd = torch.optim.SGD(net.parameters(), lr=1.0, momentum=self.momentum, weight_decay=self.decay)
        for epoch, rate in enumerate(self.rates):
            losses, wrong = [], 0
            net.train()
            for x, y in batches(images, self.batch, seed, stream, epoch, self.cutout):
                net.drop_path.step, taken = taken, taken + 1
                out = net(x)
                logits, aside = out if isinstance(out, tuple) else (out, None)
                loss = self.loss(logits, y)
                if aside is not None:
                    loss = loss + self.auxiliary * self.loss(aside, y)
                descend(net, sgd, loss, rate, self.clip)
                losses += [loss.item()] * len(y)
                wrong += int((logits.argmax(1) != y).sum())
            yield float(np.mean(losses)), 100 * wrong / len(losses)

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """(1 - eps) of the true class, eps spread over all."""
        logs = F.log_softmax(logits, 1)
        return -((1 - self.smoothing) * logs[torch.arange(len(y)), y] + self.smoothing * logs.mean(1)).mean()
