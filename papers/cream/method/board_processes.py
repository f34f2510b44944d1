"""The board under several processes: everyone holds the images of its own parts; a saved state holds those of all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.train import distributed
from papers.cream.method.board import Board


def _everyone(tensors: list[Tensor]) -> list[Tensor]:
    """The parts of all processes, process by process."""
    if distributed.world_size() == 1:
        return tensors
    import torch.distributed as dist

    mine = torch.stack(tensors).contiguous()
    gathered = [torch.empty_like(mine) for _ in range(distributed.world_size())]
    dist.all_gather(gathered, mine)
    return [part for parts in gathered for part in parts]


def board_state(board: Board) -> dict[str, Any]:
    """The board's state with the images and probabilities of every process (a common act of all of them)."""
    state = board.state_dict()
    for entry in state["entries"]:
        entry["images"], entry["soft"] = _everyone(entry["images"]), _everyone(entry["soft"])
    return state


def restore_board(board: Board, state: dict[str, Any], parts: int) -> None:
    """Take this process's parts out of a state made by ``board_state``."""
    own = slice(distributed.rank() * parts, (distributed.rank() + 1) * parts)
    # gathering loses the memory format, in which a convolution rounds differently
    entries = [
        {
            **entry,
            "images": [x.contiguous(memory_format=torch.channels_last) for x in entry["images"][own]],
            "soft": entry["soft"][own],
        }
        for entry in state["entries"]
    ]
    board.load_state_dict({"entries": entries})
