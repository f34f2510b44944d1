"""Running statistics of batch normalisation: of a batch that is shared out, made anew for a path, folded away.

The one rule where a batch is shared out over processes, or over parts in one process: after a training step the running
statistics are the mean, weighted by images, over what each share's forward made of the statistics before the step;
empty shares are left out. All processes then hold equal buffers, and one process that computes the same shares one
after another holds the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from common.run import distributed
from common.run.device import exact


def statistics(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The running statistics (buffers named running_…) and the counters (num_batches_tracked) of a model."""
    means, counters = [], []
    for name, buffer in model.named_buffers():
        own = name.rpartition(".")[2]
        if own.startswith("running_"):
            means.append(buffer)
        elif own == "num_batches_tracked":
            counters.append(buffer)
    return means, counters


def average(model: nn.Module, images: float = 1.0) -> None:
    """The rule for processes that hold one share of ``images`` (0: empty) each: call it after every training step.

    A common act of all processes; nothing for one process. Statistics that are equal everywhere stay bit-equal.
    """
    if distributed.world_size() > 1:
        means, counters = statistics(model)
        _write(means, _flat(means), images)
        _newest(counters)


class PartStatistics:
    """The rule for a process that computes several shares of a batch one after another::

    shared = PartStatistics(model)
    for images, labels in shares:
        loss(model(images)).backward()
        shared.collect(len(images))     # the next share starts from the statistics before the step
    shared.finish()                     # the weighted mean, over all processes too
    """

    def __init__(self, model: nn.Module) -> None:
        self.means, self.counters = statistics(model)
        self._before = [b.clone() for b in (*self.means, *self.counters)]
        self._after = [c.clone() for c in self.counters]
        self._sum = torch.zeros_like(_flat(self.means))
        self._images = 0.0

    @torch.no_grad()
    def collect(self, images: float) -> None:
        """Take what the forward of a share of ``images`` left, and put back the statistics before the step."""
        if images:
            self._sum += _flat(self.means) * images
            self._after = [torch.maximum(a, c) for a, c in zip(self._after, self.counters)]
            self._images += images
        _put([*self.means, *self.counters], self._before)

    @torch.no_grad()
    def finish(self) -> None:
        """Write the mean over the collected shares of all processes. Without any image the statistics stay."""
        _write(self.means, self._sum / max(self._images, 1.0), self._images)
        _put(self.counters, self._after)
        _newest(self.counters)


@torch.no_grad()
def renew(norms: Sequence[nn.Module], batches: Iterable[Any], forward: Callable[[Any], object]) -> None:
    """Running statistics := their plain averages over ``batches``, each run by ``forward``, such as one path's.

    norms: the layers to renew, in training mode; those that ``forward`` does not reach are left at mean 0, variance 1.
    A layer that does not count its batches (num_batches_tracked) must be used once a batch. batches: inputs, of which
    the length says how many; in several processes each gives its share, and the statistics are averaged by the rule.
    """
    momenta, counted = [norm.momentum for norm in norms], [bool(statistics(norm)[1]) for norm in norms]
    layers = nn.ModuleList(norms)
    for name, buffer in layers.named_buffers():
        buffer.fill_(1 if name.endswith("running_var") else 0)
    for number, inputs in enumerate(batches):
        for norm, counts in zip(norms, counted):
            norm.momentum = None if counts else 1 / (number + 1)  # type: ignore[assignment]
        if len(inputs):
            forward(inputs)
        average(layers, len(inputs))
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum


@contextlib.contextmanager
def kept(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, running statistics may change; afterwards the old ones are back."""
    buffers = [buffer for norm in norms for buffer in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, old in zip(buffers, before):
            buffer.data.copy_(old)


def scale_and_shift(norm: Any) -> tuple[Tensor, Tensor]:
    """What a normalisation does to a channel in evaluation mode: s = g / sqrt(var + eps) and b - mean s.

    norm: with running_mean, running_var, eps, and weight and bias (None: g = 1, b = 0).
    """
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = norm.weight * scale
    shift = norm.running_mean * scale
    return scale, -shift if norm.bias is None else norm.bias - shift


def fold(weight: Tensor, norm: Any) -> tuple[Tensor, Tensor]:
    """(weight, bias) of a convolution [out, in, k, k] without bias, the normalisation behind it folded in."""
    scale, shift = scale_and_shift(norm)
    return weight * scale.view(-1, 1, 1, 1), shift


def _flat(tensors: list[Tensor]) -> Tensor:
    """The tensors in a row, in float64 where there is one: the mean of equal float32 values is that value there."""
    flat = torch.cat([t.detach().reshape(-1) for t in tensors] or [torch.zeros(0)])
    return flat.to(exact(flat.device))


@torch.no_grad()
def _write(means: list[Tensor], flat: Tensor, images: float) -> None:
    """The mean over the processes of the values ``flat``, into the tensors they belong to."""
    if distributed.world_size() > 1:
        distributed.all_reduce_mean([flat], weight=images)
    elif not images:
        return
    pieces = flat.split([buffer.numel() for buffer in means])
    _put(means, [piece.view(buffer.shape) for piece, buffer in zip(pieces, means)])


def _put(buffers: list[Tensor], values: list[Tensor]) -> None:
    """By .data: the backward of a share may still come, and must not take this for a change of what it saved."""
    if buffers:
        torch._foreach_copy_([buffer.data for buffer in buffers], values)


@torch.no_grad()
def _newest(counters: list[Tensor]) -> None:
    """Counters of a process whose share was empty follow the others."""
    if distributed.world_size() > 1 and counters:
        import torch.distributed as dist

        flat = torch.stack([c.detach().reshape(()) for c in counters])
        dist.all_reduce(flat, op=dist.ReduceOp.MAX)
        _put(counters, list(flat))
