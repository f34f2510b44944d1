"""What weights of a cell of NAS-Bench-201 settle for a training that starts from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from common.spaces.nasbench201.cell import Cell201, cell
from common.spaces.nasbench201.settings import TrainCell
from common.spaces.nasbench201.train import cell_of
from common.spaces.use import cell_size, check_space
from common.use.finetune import Start, arch_asked, read_start, settled

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def cell_start(
    settings: TrainCell, options: RunOptions, published: Mapping[str, Any]
) -> tuple[TrainCell, Cell201, Start | None]:
    """(settings, the cell to train, the weights of ``--checkpoint``); the settings have that file's width and depth.

    published: cells that ``--arch`` may name. Raises UserError where nobody names a cell, and where the file is of no
    such network, or does not say its cell and the user names none, or names another.
    """
    if not settings.checkpoint:
        return settings, cell_of(settings.arch, options, published), None
    file, found = read_start(settings.checkpoint, options.paper)
    check_space(found, "nasbench201")
    width, depth = cell_size(found)
    named, held = arch_asked(settings, options.given), found.metadata.get("architecture")
    own = cell(held, found.source) if held is not None else None
    if own is None and not named:
        raise UserError(f"{found.source} does not say its cell; name it with --arch (a string, six digits or a file)")
    one = cell_of(named, options, published) if named else own
    assert one is not None
    if own is not None and one != own:
        raise UserError(f"{found.source} holds another architecture than --arch {named}; leave the flag out")
    said = {"channels": width, "cells_per_stage": depth}
    fixed = {"arch": "" if own else named, "checkpoint": str(file)}
    settings = settled(settings, options.given, said, found.source, **fixed)
    return settings, one, Start(file, found, found.tensors, len(found.tensors["classifier.weight"]))
