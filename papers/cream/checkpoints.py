"""Reading weights: the authors' ``*.pth.tar``, the NNI hub's converted state dicts, and our own files (section 6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from common.checkpoints import load_strict, load_tensors, strip_prefix
from common.errors import UserError


def state_of(content: Any, path: Path, which: str = "ema") -> dict[str, Tensor]:
    """The wanted state dict of a file's content: a container with ``state_dict_ema`` and ``state_dict``, or bare.

    which: ``ema`` (behind every published number) or ``raw``. Raises UserError when the container lacks it.
    """
    if isinstance(content, dict) and ("state_dict" in content or "state_dict_ema" in content):
        key = "state_dict_ema" if which == "ema" else "state_dict"
        if not content.get(key):
            raise UserError(f"{path} has no {key}; it holds {', '.join(map(str, content))}; pass --weights raw or ema")
        content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"{path} holds no state dict; give the authors' .pth.tar, an NNI hub .pth or our .safetensors")
    return strip_prefix(content, "module.")


def in_order(state: dict[str, Tensor], model: nn.Module, path: Path) -> dict[str, Tensor]:
    """The NNI hub's conversion, backwards: walk both dicts in order, every shape must match.

    The hub names are ``stem``, ``blocks``, ``classifier.1``; it kept the order of the original. Raises UserError naming
    the first entry that differs, which is what happens with a checkpoint of another network.
    """
    own = model.state_dict()
    if len(state) != len(own):
        raise UserError(
            f"{path} has {len(state)} entries, the network {len(own)}: a checkpoint of another network; check --arch"
        )
    for (name, tensor), (source, value) in zip(own.items(), state.items()):
        if tensor.shape != value.shape:
            raise UserError(
                f"{path}: {source} {list(value.shape)} does not fit {name} {list(tensor.shape)}: a checkpoint of "
                f"another network; check --arch and --single-block"
            )
    return dict(zip(own, state.values()))


def load_weights(model: nn.Module, file: str, which: str = "ema") -> str:
    """Load any of the three formats strictly; returns which one it was: ``authors``, ``nni`` or ``own``.

    Raises UserError for a file of another format or network, or another number of classes.
    """
    if not file:
        raise UserError("no weights given; pass --checkpoint FILE")
    path = Path(file)
    content = load_tensors(path)
    state = state_of(content, path, which)
    head = state.get("classifier.weight", state.get("classifier.1.weight"))
    classes = model.classifier.weight.shape[0]  # type: ignore[union-attr]
    if isinstance(head, Tensor) and head.shape[0] != classes:
        raise UserError(f"{path} has a head of {head.shape[0]} classes, the data set has {classes}; check --dataset")
    if "conv_stem.weight" in state:
        load_strict(model, state)
        return "own" if path.suffix == ".safetensors" else "authors"
    load_strict(model, in_order(state, model, path))
    return "nni"


def stored_epoch(file: str) -> dict[str, int]:
    """``checkpoint_epoch`` where the file is a container that says at which epoch it was written, else nothing."""
    content = load_tensors(Path(file))
    epoch = content.get("epoch") if isinstance(content, dict) else None
    return {"checkpoint_epoch": epoch} if isinstance(epoch, int) else {}
