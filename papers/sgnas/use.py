"""An SGNAS network in your own hands: from a name, a file or kernel lists to the network itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from common.cli.errors import UserError
from common.spaces.use import classes_of
from common.weights.published import pinned
from common.weights.read import Checkpoint, read_checkpoint
from papers.sgnas.describe import DATASETS
from papers.sgnas.evaluate import CLASSIFIER, load_weights
from papers.sgnas.networks.architectures import PUBLISHED, SPACE, Architecture, check_kernels, macro_for, read
from papers.sgnas.networks.derived import DROPOUT, Network
from papers.sgnas.networks.layers import ACTIVATIONS
from papers.sgnas.networks.plain import plain_form


def network(
    architecture: Any = None, *, dataset: str | None = None, classes: int | None = None,
    weights: str | Path | None = None, pretrained: bool = False, macro: str | None = None, se: bool | None = None,
    activation: str | None = None, dropout: float = DROPOUT, bn_momentum: float = 0.1,
) -> nn.Module:  # fmt: skip
    """See ``papers.sgnas.network``."""
    found = None if architecture is None else read(architecture)
    if pretrained:
        if weights is not None:
            raise UserError("pretrained and weights are both given; leave one out")
        if found is None or found.name not in PUBLISHED:
            raise UserError(f"pretrained weights are those of {', '.join(PUBLISHED)}; name one as the architecture")
        weights = pinned(found.name.lower())
    held = None
    if weights is not None:
        file = Path(weights)
        held = read_checkpoint(file / "weights.safetensors" if file.is_dir() else file)
        found = _of_weights(found, held, classes, dataset, (se, activation))
    if found is None:
        raise UserError(f"no architecture given; use {', '.join(PUBLISHED)}, kernel lists, a file, or weights")
    name = dataset or found.dataset or "imagenet"
    known, usual = DATASETS.get(name, ("imagenet", None))
    structure = macro_for(macro or found.macro or known)
    kernels = check_kernels(found.kernels, structure)
    own = found.classes if held is not None or name == found.dataset else None
    rows = classes or own or usual or classes_of(name)
    imagenet = name == "imagenet"
    with_se = se if se is not None else imagenet if found.se is None else found.se
    chosen = activation or found.activation or ("hswish" if imagenet else "relu")
    if chosen not in ACTIVATIONS:
        raise UserError(f"unknown activation {chosen!r}; use one of {', '.join(ACTIVATIONS)}")
    made = Network(structure, kernels, rows, with_se, chosen, bn_momentum, dropout).eval()
    if held is not None:
        load_weights(made, held)
    return plain_form(made, with_se, bn_momentum)


def _of_weights(
    found: Architecture | None, held: Checkpoint, classes: int | None, dataset: str | None,
    asked: tuple[bool | None, str | None],
) -> Architecture:  # fmt: skip
    """The network that a file's weights are of. Raises UserError where what is asked for says something else."""
    about = held.metadata if held.metadata.get("space") == SPACE else {}
    if about:
        own = about["architecture"]
        if found is not None and found.kernels != own["kernels"]:
            raise UserError(f"{held.source} holds the weights of another architecture than {found.name}; leave it out")
        found = Architecture(str(held.source), own["kernels"], own["macro"], str(about["dataset"]))
    if found is None:
        raise UserError(f"{held.source} does not say its architecture; name it, such as SGNAS-A")
    se, activation = any(".se." in name for name in held.tensors), about.get("activation", "")
    for word, value, own in (("se", asked[0], se), ("activation", asked[1], activation)):
        if value is not None and own != "" and value != own:
            raise UserError(f"{word} {value}: {held.source} has {word} {own}; leave it out")
    head = held.tensors.get(CLASSIFIER)
    rows = len(head) if head is not None else 0
    wanted = classes or (DATASETS[dataset][1] if dataset in DATASETS and dataset != found.dataset else None)
    if rows and wanted and wanted != rows:
        raise UserError(
            f"{held.source} has a classifier of {rows} classes, {wanted} are asked for; leave classes and dataset out, "
            f"and give the network another classifier afterwards"
        )
    return replace(found, classes=rows, se=se, activation=str(activation or asked[1] or "hswish"))
