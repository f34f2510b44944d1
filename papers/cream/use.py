"""A Cream network in your own hands: from a name, a file or pasted text to the network itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from common.data.names import CLASSES
from common.errors import UserError
from common.spaces.use import check_classes, classes_of, file_of, refuse_both
from common.weights.published import pinned
from common.weights.read import read_checkpoint, read_metadata
from papers.cream.networks.architectures import PUBLISHED, Architecture, of_weights, path_of, resolve
from papers.cream.networks.convolution import plain
from papers.cream.networks.derived import spec_of
from papers.cream.networks.networks import DerivedNetwork
from papers.cream.networks.weights import load_weights


def architecture(source: Any) -> Architecture:
    """See ``papers.cream.architecture``."""
    if isinstance(source, Architecture):
        return source
    if isinstance(source, list | tuple):
        return Architecture("path", path_of(source))
    return resolve(str(source).strip())


_read = architecture  # below, ``architecture`` is what was given


def network(
    architecture: Any = None, *, dataset: str | None = None, classes: int | None = None,
    weights: str | Path | None = None, pretrained: bool = False, dropout: float = 0.0, single_block: str = "auto",
    repeat_stage3: bool = False,
) -> nn.Module:  # fmt: skip
    """See ``papers.cream.network``."""
    found = None if architecture is None else _read(architecture)
    refuse_both(weights, pretrained)
    if pretrained:
        if found is None or found.name not in PUBLISHED:
            raise UserError(f"pretrained weights are those of {', '.join(PUBLISHED)}; name one as the architecture")
        weights = pinned(f"cream-{found.name}")
    if weights is None:
        if found is None:
            raise UserError(f"no architecture given; choose one of {', '.join(PUBLISHED)}, a path, a file, or weights")
        return _made(found, classes or _classes(found, dataset), dropout, single_block, repeat_stage3)
    file = str(file_of(weights))
    found = found or of_weights(file)
    state = read_checkpoint(file).tensors
    head = state.get("classifier.weight", state.get("classifier.1.weight"))
    held = len(head) if head is not None else classes or _classes(found, dataset)
    asked = classes or (
        None if dataset is None or dataset == read_metadata(file).get("dataset") else CLASSES.get(dataset)
    )
    check_classes(file, held, asked)
    made = _made(found, held, dropout, single_block, repeat_stage3)
    load_weights(made, file)
    return made


def _made(found: Architecture, classes: int, dropout: float, single_block: str, repeat: bool) -> DerivedNetwork:
    made = DerivedNetwork(spec_of(found, classes, single_block, repeat), dropout)
    plain(made)
    return made.eval()


def _classes(found: Architecture, dataset: str | None) -> int:
    """Of the set or folder that is asked for, else of the file's, else ImageNet's. Raises UserError."""
    if (dataset is None or dataset == found.dataset) and found.classes:
        return found.classes
    name = dataset or found.dataset or "imagenet"
    return CLASSES[name] if name in CLASSES else classes_of(name)
