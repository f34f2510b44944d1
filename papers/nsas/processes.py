"""Which verbs share their work between processes: only the training of derived CNNs does."""

from __future__ import annotations

from common.cli.errors import UserError
from common.train import distributed


def one_process(what: str) -> None:
    """Raises UserError under torchrun with several processes: batches of 32 to 64 images are not worth sharing."""
    if distributed.world_size() > 1:
        raise UserError(
            f"{what} runs in one process, torchrun gave {distributed.world_size()}; start it without torchrun, and one "
            f"run per seed side by side"
        )
