"""Plain data-parallel runs under torchrun: gloo on CPU, NCCL on GPU. One process needs no process group."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

TIMEOUT_S = 600  # a rank that waits longer than this for the others gives up; NAS_DISTRIBUTED_TIMEOUT_S changes it


def world_size() -> int:
    """Number of processes of the job."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process in the job."""
    return int(os.environ.get("RANK", "0"))


def setup() -> None:
    """Join the process group that torchrun describes in the environment; nothing for a single process."""
    if world_size() == 1:
        return
    import torch.distributed as dist

    if not dist.is_initialized():
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        enough = gpus >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        timeout = timedelta(seconds=float(os.environ.get("NAS_DISTRIBUTED_TIMEOUT_S", TIMEOUT_S)))
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


def all_reduce_mean(tensors: Iterable[Any]) -> None:
    """Replace each floating-point tensor by its mean over the processes, in place."""
    if world_size() == 1:
        return
    import torch.distributed as dist

    for tensor in tensors:
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
        tensor.div_(world_size())


def broadcast(tensors: Iterable[Any]) -> None:
    """Replace each tensor by that of process 0, in place."""
    if world_size() > 1:
        import torch.distributed as dist

        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def wrap(model: Any, *, find_unused: bool = True) -> Any:
    """DistributedDataParallel (paths leave parameters unused), or the model itself for one process."""
    if world_size() == 1:
        return model
    from torch.nn.parallel import DistributedDataParallel

    devices = {p.device for p in model.parameters()}
    ids = [next(iter(devices)).index] if next(iter(devices)).type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, find_unused_parameters=find_unused)
