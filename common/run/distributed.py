"""Plain data-parallel runs under torchrun: gloo on CPU, NCCL on GPU. One process needs no process group."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.outside import of_environment, seconds_of_environment

BUCKET_BYTES = 2**26
TIMEOUT_S = 600  # a rank that waits longer than this for the others gives up; NAS_DISTRIBUTED_TIMEOUT_S changes it


def world_size() -> int:
    """Number of processes of the job."""
    return of_environment("WORLD_SIZE", 1, least=1)


def rank() -> int:
    """Number of this process in the job."""
    return of_environment("RANK", 0)


def check_job() -> None:
    """Whether the environment describes a job whole, as torchrun does. Raises UserError."""
    size, missing = world_size(), [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(n)]
    if rank() >= size:
        raise UserError(
            f"RANK={rank()} in the environment is no process of WORLD_SIZE={size}; unset both, or use torchrun"
        )
    if size > 1 and missing:
        raise UserError(
            f"WORLD_SIZE={size} is set in the environment, {', '.join(missing)} not; start with torchrun, or unset it"
        )
    if size > 1:
        of_environment("LOCAL_RANK", 0), of_environment("MASTER_PORT", 0, least=1)


@dataclass(frozen=True)
class Sharing:
    """Which shares of every batch are those of process ``rank`` of ``world``.

    parts: shares that a batch is cut into over all processes, as ``torch.tensor_split`` cuts: a multiple of ``world``,
    of which each process takes ``parts // world`` consecutive ones; 0: one a process. Raises UserError where the
    processes cannot share them.
    """

    rank: int = 0
    world: int = 1
    parts: int = 0

    def __post_init__(self) -> None:
        if self.shares < 1 or self.shares % self.world:
            raise UserError(
                f"{self.shares} parts cannot be shared by {self.world} processes; use a multiple of {self.world}"
            )

    @property
    def shares(self) -> int:
        """Shares of a batch, over all processes."""
        return self.parts or self.world

    def limits(self, images: int) -> list[int]:
        """Where this process's shares of a batch of ``images`` begin, and where the last one ends."""
        mine = self.shares // self.world
        return cuts(images, self.shares)[self.rank * mine : (self.rank + 1) * mine + 1]


def cuts(images: int, shares: int) -> list[int]:
    """Where ``torch.tensor_split`` cuts ``images`` into ``shares``: shares + 1 limits from 0 to images."""
    each, more = divmod(images, shares)
    return [i * each + min(i, more) for i in range(shares + 1)]


def per_process(parts: int = 0) -> Sharing:
    """How this process shares every batch with the others of the job. parts: see ``Sharing``."""
    return Sharing(rank(), world_size(), parts)


def one_process(what: str) -> None:
    """Raises UserError under torchrun with several processes: for work whose batches are not worth sharing."""
    if world_size() > 1:
        raise UserError(
            f"{what} runs in one process, torchrun gave {world_size()}; start it without torchrun, and one run per "
            f"seed side by side"
        )


def setup() -> None:
    """Join the process group that torchrun describes in the environment; nothing for a single process.

    Raises UserError where the environment describes no job.
    """
    check_job()
    if world_size() == 1:
        return
    import torch.distributed as dist

    if not dist.is_initialized():
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        enough = gpus >= of_environment("LOCAL_WORLD_SIZE", 1, least=1)
        timeout = timedelta(seconds=seconds_of_environment("NAS_DISTRIBUTED_TIMEOUT_S", TIMEOUT_S))
        dist.init_process_group("cpu:gloo,cuda:nccl" if enough and gpus else "gloo", timeout=timeout)


def close() -> None:
    """Leave the process group."""
    if world_size() > 1:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()


def barrier() -> None:
    """Wait for all processes."""
    import torch

    all_reduce_mean([torch.ones(1)])


def all_reduce_mean(tensors: Iterable[Any], weight: float = 1.0) -> None:
    """Replace each floating-point tensor by its weighted mean over the processes, in place.

    mean = sum_r w_r t_r / sum_r w_r with ``weight`` w_r of process r: its number of images, say. A process of weight 0
    (an empty share) takes part, whatever its tensors hold; some weight must be positive. All processes give tensors of
    the same shapes in the same order; they travel in few buckets per type and device, and the next bucket is packed
    while one is under way. Nothing for one process.
    """
    if world_size() == 1:
        return
    import torch.distributed as dist

    sent = []
    for bucket in buckets(tensors):
        flat = packed(bucket, weight)
        sent.append((bucket, flat, dist.all_reduce(flat, op=dist.ReduceOp.SUM, async_op=True)))
    for bucket, flat, message in sent:
        message.wait()
        unpack(flat, bucket)


def summed(*values: float) -> list[float]:
    """The sums of plain numbers over the processes (a common act of all of them); as they are for one process."""
    if world_size() == 1:
        return list(values)
    import torch

    totals = torch.tensor(values, dtype=torch.float64)
    all_reduce_sum([totals])
    return totals.tolist()


def all_reduce_sum(tensors: Iterable[Any]) -> None:
    """Replace each tensor by its sum over the processes, in place; nothing for one process."""
    if world_size() > 1:
        import torch.distributed as dist

        for tensor in tensors:
            dist.all_reduce(tensor, op=dist.ReduceOp.SUM)


def reduce_gradients(parameters: Iterable[Any], images: float = 1.0) -> None:
    """Give all processes the gradient of the whole batch: the mean over processes, each weighted by its ``images``.

    A process without a gradient that another one has (an empty share, another path) counts as zero there; a parameter
    without a gradient in every process keeps none, and nothing is sent for it. A common act of all processes; nothing
    for one process.
    """
    if world_size() == 1:
        return
    import torch
    import torch.distributed as dist

    wanted = list(parameters)
    present = torch.tensor([p.grad is not None for p in wanted], dtype=torch.uint8)
    dist.all_reduce(present, op=dist.ReduceOp.MAX)
    used = [p for p, somewhere in zip(wanted, present.tolist()) if somewhere]
    for p in used:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    all_reduce_mean([p.grad for p in used], weight=images)


def agree(decision: bool) -> bool:
    """Process 0's decision in all processes (a common act of all of them); inside work that ``share_out`` gave to one
    process, its own.
    """
    if world_size() == 1 or _at_its_own_work:
        return decision
    import torch
    import torch.distributed as dist

    flag = torch.tensor([int(decision)], dtype=torch.int32)
    dist.broadcast(flag, src=0)
    return bool(flag.item())


def anywhere(decision: bool) -> bool:
    """Whether any process decided so (a common act of all of them)."""
    if world_size() == 1:
        return decision
    import torch
    import torch.distributed as dist

    flag = torch.tensor([int(decision)], dtype=torch.int32)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag.item())


def gather(value: Any) -> list[Any]:
    """The plain values of all processes, process by process (a common act of all of them)."""
    if world_size() == 1:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value)
    return found


def all_see(path: Path, patience_s: float = 10.0) -> None:
    """Wait until every process sees a file that one of them wrote (a common act of all of them).

    Raises UserError, in all of them, where one does not: it runs on a machine with a disk of its own.
    """
    if world_size() == 1:
        return
    until = time.monotonic() + patience_s
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.2)
    blind = [number for number, sees in enumerate(gather(path.exists())) if not sees]
    if blind:
        raise UserError(
            f"process {blind[0]} of {world_size()} does not see {path.parent}, which process 0 writes; the machines of "
            f"a job need one folder that all of them see: give it with --out"
        )


def in_turns(items: Iterable[Any]) -> list[list[tuple[int, Any]]]:
    """(number, item) of all items, as many at a time as there are processes; for ``share_out``."""
    numbered, count = list(enumerate(items)), world_size()
    return [numbered[place : place + count] for place in range(0, len(numbered), count)]


_at_its_own_work = False


def share_out(turn: list[tuple[int, Any]], work: Callable[[int, Any], Any]) -> list[Any]:
    """work(number, item) of every item of a turn, in order, in all processes; process r does that of item r.

    The work must be the same in whichever process, and its values plain. A common act of all processes.
    """
    global _at_its_own_work
    _at_its_own_work = True  # in the last turn some processes have no work, and so nothing to agree on
    try:
        mine = work(*turn[rank()]) if rank() < len(turn) else None
    finally:
        _at_its_own_work = False
    return gather(mine)[: len(turn)]


def broadcast(tensors: Iterable[Any]) -> None:
    """Replace each tensor by that of process 0, in place."""
    if world_size() > 1:
        import torch.distributed as dist

        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def packed(bucket: list[Any], weight: float) -> Any:
    """The tensors in a row, times ``weight``, and the weight behind them."""
    import torch

    first = bucket[0]
    exact = first.dtype if first.dtype in (torch.float32, torch.float64) else torch.float32
    flat = torch.zeros(sum(t.numel() for t in bucket) + 1, dtype=exact, device=first.device)
    if weight:  # 0 * NaN would be NaN
        torch.cat([t.detach().reshape(-1) for t in bucket], out=flat[:-1])
        flat[-1] = 1.0
        flat *= weight
    return flat


def unpack(flat: Any, bucket: list[Any]) -> None:
    """What ``packed`` gave, summed over the processes, as means into the tensors."""
    import torch

    flat /= flat[-1].clone()
    pieces = flat[:-1].split([tensor.numel() for tensor in bucket])
    values = [piece.view(tensor.shape) for piece, tensor in zip(pieces, bucket)]
    with torch.no_grad():
        torch._foreach_copy_([tensor.data for tensor in bucket], values)


def buckets(tensors: Iterable[Any], most: int = 0) -> list[list[Any]]:
    """Tensors of one type and device together, each bucket of at most ``most`` bytes (0: BUCKET_BYTES) or one tensor.

    Raises TypeError for tensors that have no mean.
    """
    groups: dict[Any, list[list[Any]]] = {}
    filled: dict[Any, int] = {}
    for tensor in tensors:
        if not tensor.is_floating_point():
            raise TypeError(f"a mean needs floating-point tensors, not {tensor.dtype}")
        key, size = (tensor.dtype, tensor.device), tensor.numel() * tensor.element_size()
        if key not in groups or filled[key] + size > (most or BUCKET_BYTES):
            groups.setdefault(key, []).append([])
            filled[key] = 0
        groups[key][-1].append(tensor)
        filled[key] += size
    return [bucket for group in groups.values() for bucket in group]


def firsts(items: Iterable[Hashable]) -> list[int]:
    """For every item the place of the first that equals it; its own where none before does.

    What was measured at that place holds here too, wherever measuring moves nothing and draws nothing.
    """
    places: dict[Hashable, int] = {}
    return [places.setdefault(item, place) for place, item in enumerate(items)]
