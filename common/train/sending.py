"""Gradients that travel to the other processes while the backward pass is still at earlier layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from common.run import distributed

BUCKET_BYTES = 2**22  # small enough that the first is under way long before the pass ends


class Sending:
    """The mean gradients of one backward pass over all processes, each weighted by its ``images``::

        sending = Sending(parameters, images)     # none of which has a gradient
        sending.expect(loss)                      # left out where a process has no images
        loss.backward()                           # a bucket leaves when its gradients are there
        sending.rest()                            # those that are left; other messages may follow
        sending.finish()                          # now the gradients are the means

    The same numbers as ``distributed.reduce_gradients``, by its rules: a gradient that a process lacks counts as zero
    there, a parameter without one in every process keeps none. Every method but ``expect`` is a common act of all
    processes, of several ones. What is in a bucket depends on which gradients there are, never on when they come.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], images: float) -> None:
        self.parameters, self.images = parameters, images
        self._wanted: tuple[Tensor, Any] | None = None  # which gradients there will be somewhere, and the message
        self._buckets: list[list[nn.Parameter]] | None = None
        self._bucket_of: dict[Tensor, int] = {}
        self._missing: list[int] = []  # gradients of each bucket that this process waits for
        self._sent: list[tuple[Tensor, Any]] = []
        self._coming: list[nn.Parameter] = []
        self._hooks: list[Any] = []

    def expect(self, loss: Tensor) -> None:
        """Before ``loss.backward()``: ask which gradients the others will have, and look out for one's own."""
        reached = leaves(loss)
        self._coming = [p for p in self.parameters if p in reached]
        self._ask()
        self._hooks = [p.register_post_accumulate_grad_hook(self._came) for p in self._coming]

    def rest(self) -> None:
        """After the backward pass: send what has not been sent. Raises RuntimeError for a gradient that never came."""
        for hook in self._hooks:
            hook.remove()
        if any(p.grad is None for p in self._coming):
            raise RuntimeError("the backward pass left out a parameter that its loss depends on; this is a bug")
        if self._wanted is None:
            self._ask()
        for bucket in self._planned()[len(self._sent) :]:
            self._send(bucket)

    @torch.no_grad()
    def finish(self) -> None:
        """Wait for the others, and put the means in place."""
        for bucket, (flat, message) in zip(self._planned(), self._sent, strict=True):
            message.wait()
            distributed.unpack(flat, [p.grad for p in bucket])

    def _ask(self) -> None:
        import torch.distributed as dist

        coming = set(self._coming)
        flags = torch.tensor([p in coming for p in self.parameters], dtype=torch.uint8)
        self._wanted = flags, dist.all_reduce(flags, op=dist.ReduceOp.MAX, async_op=True)

    def _planned(self) -> list[list[nn.Parameter]]:
        """The buckets, the last parameters first, since their gradients come first."""
        if self._buckets is None:
            assert self._wanted is not None
            flags, message = self._wanted
            message.wait()
            used = [p for p, somewhere in zip(self.parameters, flags.tolist()) if somewhere]
            self._buckets = distributed.buckets(reversed(used), BUCKET_BYTES)
            self._bucket_of = {p: number for number, bucket in enumerate(self._buckets) for p in bucket}
            self._missing = [0] * len(self._buckets)
            for p in self._coming:
                self._missing[self._bucket_of[p]] += 1
        return self._buckets

    def _came(self, parameter: Tensor) -> None:
        buckets = self._planned()
        self._missing[self._bucket_of[parameter]] -= 1
        while len(self._sent) < len(buckets) and not self._missing[len(self._sent)]:
            self._send(buckets[len(self._sent)])

    def _send(self, bucket: list[nn.Parameter]) -> None:
        import torch.distributed as dist

        for p in bucket:
            if p.grad is None:  # this process has none, another one has
                p.grad = torch.zeros_like(p)
        flat = distributed.packed([p.grad for p in bucket], self.images)
        self._sent.append((flat, dist.all_reduce(flat, op=dist.ReduceOp.SUM, async_op=True)))


def leaves(loss: Tensor) -> set[Any]:
    """The leaf tensors that ``loss.backward()`` gives gradients to."""
    found, seen, ahead = set(), set(), [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(node.variable)
        ahead += [earlier for earlier, _ in node.next_functions]
    return found


@contextlib.contextmanager
def put_aside(parameters: Iterable[Any], times: float = 1.0) -> Iterator[None]:
    """Inside, parameters have no gradients but new ones; afterwards these, ``times`` as large, join those from before.

    Around backward passes and ``distributed.reduce_gradients`` it keeps old gradients, equal in all processes,
    at home: what a step does not use is then not sent, though it may have a gradient of zeros.
    """
    before = [(p, p.grad) for p in parameters]
    for p, old in before:
        if old is not None:
            p.grad = None
    yield
    new = [p.grad for p, _ in before if p.grad is not None]
    if new and times != 1.0:
        torch._foreach_mul_(new, times)
    both = [(old, p.grad) for p, old in before if old is not None and p.grad is not None]
    if both:
        torch._foreach_add_(*(list(each) for each in zip(*both)))
    for p, old in before:
        if old is not None:
            p.grad = old
