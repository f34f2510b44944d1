"""Weights into a network: the authors' ``*.pth.tar``, the NNI hub's converted state dicts, and our own files."""

from __future__ import annotations

from torch import Tensor

from common.errors import UserError
from common.weights.read import Checkpoint, load_strict, read_checkpoint
from papers.cream.networks.networks import DerivedNetwork


def in_order(found: Checkpoint, model: DerivedNetwork) -> dict[str, Tensor]:
    """The NNI hub's conversion, backwards: walk both dicts in order, every shape must match.

    The hub names are ``stem``, ``blocks``, ``classifier.1``; it kept the order of the original. Raises UserError naming
    the first entry that differs, which is what happens with a checkpoint of another network.
    """
    own, state = model.state_dict(), found.tensors
    if len(state) != len(own):
        raise UserError(
            f"{found.source} has {len(state)} entries, the network {len(own)}: a checkpoint of another network; check "
            f"--arch"
        )
    for (name, tensor), (source, value) in zip(own.items(), state.items()):
        if tensor.shape != value.shape:
            raise UserError(
                f"{found.source}: {source} {list(value.shape)} does not fit {name} {list(tensor.shape)}: a checkpoint "
                f"of another network; check --arch and --single-block"
            )
    return dict(zip(own, state.values()))


def load_weights(model: DerivedNetwork, file: str, which: str = "auto") -> tuple[str, Checkpoint]:
    """Load any of the three formats strictly: (``authors``, ``nni`` or ``own``, the file).

    which: ``ema``, ``raw``, or ``auto``, the average where the file holds one (behind every published number). Raises
    UserError for a file of another format or network, or another number of classes.
    """
    if not file:
        raise UserError("no weights given; pass --checkpoint FILE")
    found = read_checkpoint(file, which)
    head = found.tensors.get("classifier.weight", found.tensors.get("classifier.1.weight"))
    classes = model.classes
    if isinstance(head, Tensor) and head.shape[0] != classes:
        raise UserError(
            f"{file} has a head of {head.shape[0]} classes, the data set has {classes}; check --dataset (published "
            f"weights are of imagenet: --profile paper)"
        )
    if "conv_stem.weight" in found.tensors:
        load_strict(model, found.tensors, source=found.source)
        return ("own" if found.metadata else "authors"), found
    load_strict(model, in_order(found, model), source=found.source)
    return "nni", found
