"""A NAO network in your own hands: from a name, a file or a sequence to the network itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from common.cli.errors import UserError
from common.spaces.pasted import letters
from common.spaces.use import classes_of
from common.weights.published import pinned
from common.weights.read import load_strict
from papers.nao_v2.describe import DATASETS, configuration, origin_of
from papers.nao_v2.evaluate import Stored, build, read_checkpoint
from papers.nao_v2.networks.architectures import (
    PUBLISHED_TEXT,
    Cell,
    Shape,
    check,
    is_text,
    load,
    numbers_of,
    space_of,
    text_of,
)
from papers.nao_v2.networks.derived import Network
from papers.nao_v2.settings import Evaluate

PINS = {
    ("NAONet_V2", "cifar10"): "nao-v2-cifar10",
    ("NAONet_V2", "imagenet"): "nao-v2-imagenet",
    ("NAONet_V2_2019_09_11", "cifar10"): "nao-v2-cifar10-2019",
}
SIZES = {"cifar": (36, 6), "imagenet": (52, 4)}  # kind of network: published width and depth
NAMES = {text: name for name, text in PUBLISHED_TEXT.items()}


class Found(tuple[Cell, Cell]):
    """(normal cell, reduction cell), each ``input1 op1 input2 op2`` per node, and what the source says beside them.

    name: of a published one, however it was written; else "". space: the operations that the integers name. said: of
    the search or training that wrote the file. channels: of a name like ``NAONet_V2-44``; else 0.
    """

    space: str = "small"
    said: dict[str, Any]
    channels: int = 0

    @property
    def name(self) -> str:
        return NAMES.get(self.text, "") if self.space == "small" else ""

    @property
    def text(self) -> str:
        """The 40 integers with blanks between them."""
        return text_of((self[0], self[1]))


def architecture(source: Any, space: str = "small") -> Found:
    """See ``papers.nao_v2.architecture``."""
    if isinstance(source, Found):
        return source
    said: dict[str, Any] = {}
    channels = 0
    if isinstance(source, list | tuple):
        cells = check(numbers_of(source), space)
    else:
        name = str(source).strip()
        if not is_text(name) and not Path(name).exists():
            name, channels = _published(name)
        said = origin_of(name)
        space = space_of(name, space)
        cells = load(name, space)
    found = Found(cells)
    found.space, found.said, found.channels = space, said, channels
    return found


_read = architecture  # below, ``architecture`` is what was given


def _published(name: str) -> tuple[str, int]:
    """(published name, width) of ``naonet-v2`` or ``NAONet_V2-44``; (the word itself, 0) of another one."""
    for known in PUBLISHED_TEXT:
        width = letters(name).removeprefix(letters(known))
        if letters(name) == letters(known):
            return known, 0
        if letters(name).startswith(letters(known)) and width.isdigit() and len(width) < 5:
            return known, int(width)
    return name, 0


def network(
    architecture: Any = None, *, dataset: str | None = None, classes: int | None = None,
    weights: str | Path | None = None, pretrained: bool = False, channels: int | None = None,
    layers: int | None = None, space: str | None = None, form: str | None = None, auxiliary: bool = False,
    dropout_keep: float = 1.0,
) -> nn.Module:  # fmt: skip
    """See ``papers.nao_v2.network``."""
    found = None if architecture is None else _read(architecture, space or "small")
    if found is not None and space not in (None, found.space):
        raise UserError(f"the architecture is of space {found.space!r}, not {space!r}; leave space out")
    if form not in (None, *SIZES):
        raise UserError(f"unknown form {form!r}; use {' or '.join(SIZES)}")
    if pretrained:
        if weights is not None:
            raise UserError("pretrained and weights are both given; leave one out")
        pin = PINS.get((found.name if found else "", dataset or "cifar10"))
        if pin is None:
            known = ", ".join(f"{name} on {on}" for name, on in PINS)
            raise UserError(f"pretrained weights are those of {known}; name one of these")
        weights = pinned(pin)
    if weights is not None:
        file = Path(weights) / "weights.safetensors" if Path(weights).is_dir() else Path(weights)
        stored = read_checkpoint(file)
        _agree(stored, str(file), dataset, classes, form)
        asked = Evaluate(
            checkpoint=str(file), arch=found.text if found else "", channels=channels or 0, layers=layers or 0,
            space=found.space if found else space or "small",  # type: ignore[arg-type]
        )  # fmt: skip
        made, cells, shape = build(asked, stored)
        if auxiliary or dropout_keep < 1:
            made = Network(cells, shape, auxiliary=auxiliary, dropout_keep=dropout_keep)
            load_strict(made, stored.weights, drop=() if auxiliary else ("auxiliary_head.",), source=str(file))
        return made.plain().eval()
    if found is None:
        raise UserError(f"no architecture given; use {', '.join(PUBLISHED_TEXT)}, 40 integers, a file, or weights")
    shape = _shape(found, dataset, classes, form, channels, layers)
    return Network(found, shape, auxiliary=auxiliary, dropout_keep=dropout_keep).plain().eval()


def _shape(
    found: Found, dataset: str | None, classes: int | None, form: str | None, channels: int | None, layers: int | None
) -> Shape:
    """What is asked for, else what the file says, else the published configuration of the set."""
    name = dataset or str(found.said.get("dataset", "cifar10"))
    if name in DATASETS or (not dataset and found.said.get("classes")):
        own, rows, width, depth, _ = configuration(dataset or "", found.said)
    else:
        own, rows, (width, depth) = "cifar", classes or classes_of(name), SIZES["cifar"]
    if form and form != own:
        own, (width, depth) = form, SIZES[form]
    width, depth = channels or found.channels or width, layers or depth
    if width < 2 or width % 2 or depth < 1:
        raise UserError(f"channels {width}, layers {depth}: give an even width and at least one layer")
    return Shape(own, width, depth, classes or rows, found.space)


def _agree(stored: Stored, file: str, dataset: str | None, classes: int | None, form: str | None) -> None:
    """Raise UserError where a file's network is not what is asked for."""
    known = DATASETS[dataset][1] if dataset in DATASETS and dataset != stored.dataset else None
    asked = classes or known
    if asked and asked != stored.classes:
        raise UserError(
            f"{file} has a classifier of {stored.classes} classes, {asked} are asked for; leave classes and dataset "
            f"out, and give the network another classifier afterwards"
        )
    if form not in (None, stored.kind):
        raise UserError(f"{file} is of a network of form {stored.kind!r}, {form!r} is asked for; leave form out")
