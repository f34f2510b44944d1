"""A NAO network in your own hands: from a name, a file or a sequence to the network itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from common.data.names import exists
from common.data.pictures.batches import IMAGENET_MEAN, IMAGENET_STD, EvalPictures
from common.errors import UserError
from common.spaces.pasted import letters
from common.spaces.use import check_classes, check_words, classes_of, refuse_both
from common.use import export as exporting
from common.use import predict as predicting
from common.use.names import class_names, weights_of
from common.use.predict import Square, View
from common.use.settings import OfWeights
from common.weights.published import pinned
from common.weights.read import load_strict, read_metadata
from papers.nao_v2.data.sets import MEAN, STD
from papers.nao_v2.describe import DATASETS, configuration, origin_of
from papers.nao_v2.evaluate import build, read_checkpoint
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
from papers.nao_v2.settings import Evaluate, Export, Predict

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

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
        if not is_text(name) and not exists(name):
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


class Wanted(NamedTuple):
    """What the caller asks for; None leaves it to the file, then to the published configuration of the set."""

    dataset: str | None
    classes: int | None
    channels: int | None = None
    layers: int | None = None
    space: str | None = None
    which: str = "auto"
    form: str | None = None
    auxiliary: bool = False
    dropout_keep: float = 1.0


def network(
    architecture: Any = None, *, dataset: str | None = None, classes: int | None = None,
    weights: str | Path | None = None, pretrained: bool = False, **sizes: Any,
) -> nn.Module:  # fmt: skip
    """See ``papers.nao_v2.network``."""
    check_words(sizes, Wanted._fields, classes)
    wanted = Wanted(dataset, classes, **sizes)
    found = None if architecture is None else _read(architecture, wanted.space or "small")
    if found is not None and wanted.space not in (None, found.space):
        raise UserError(f"the architecture is of space {found.space!r}, not {wanted.space!r}; leave space out")
    if wanted.form not in (None, *SIZES):
        raise UserError(f"unknown form {wanted.form!r}; use {' or '.join(SIZES)}")
    refuse_both(weights, pretrained)
    if pretrained:
        pin = PINS.get((found.name if found else "", dataset or "cifar10"))
        if pin is None:
            known = ", ".join(f"{name} on {on}" for name, on in PINS)
            raise UserError(f"pretrained weights are those of {known}; name one of these")
        weights = pinned(pin)
    if weights is not None:
        return _of_weights(Path(weights), found, wanted).plain().eval()
    if found is None:
        raise UserError(f"no architecture given; use {', '.join(PUBLISHED_TEXT)}, 40 integers, a file, or weights")
    shape = _shape(found, wanted)
    return Network(found, shape, auxiliary=wanted.auxiliary, dropout_keep=wanted.dropout_keep).plain().eval()


def _of_weights(file: Path, found: Found | None, wanted: Wanted) -> Network:
    """The network of a file's weights. Raises UserError where it is not what is asked for."""
    stored = read_checkpoint(file, wanted.which)
    known = DATASETS[wanted.dataset][1] if wanted.dataset in DATASETS and wanted.dataset != stored.dataset else None
    check_classes(file, stored.classes, wanted.classes or known)
    if wanted.form not in (None, stored.kind):
        raise UserError(f"{file} is of a network of form {stored.kind!r}, {wanted.form!r} is asked for; leave form out")
    asked = Evaluate(
        checkpoint=str(file), arch=found.text if found else "",
        channels=wanted.channels or 0, layers=wanted.layers or 0,
        space=found.space if found else wanted.space or "small",  # type: ignore[arg-type]
    )  # fmt: skip
    made, cells, shape = build(asked, stored)
    if wanted.auxiliary or wanted.dropout_keep < 1:
        made = Network(cells, shape, auxiliary=wanted.auxiliary, dropout_keep=wanted.dropout_keep)
        load_strict(made, stored.weights, drop=() if wanted.auxiliary else ("auxiliary_head.",), source=str(file))
    return made


def _shape(found: Found, wanted: Wanted) -> Shape:
    """What is asked for, else what the file says, else the published configuration of the set."""
    name = wanted.dataset or str(found.said.get("dataset", "cifar10"))
    if name in DATASETS or (not wanted.dataset and found.said.get("classes")):
        own, rows, width, depth, _ = configuration(wanted.dataset or "", found.said)
    else:
        own, rows, (width, depth) = "cifar", wanted.classes or classes_of(name), SIZES["cifar"]
    if wanted.form and wanted.form != own:
        own, (width, depth) = wanted.form, SIZES[wanted.form]
    width, depth = wanted.channels or found.channels or width, wanted.layers or depth
    if width < 2 or width % 2 or depth < 1:
        raise UserError(f"channels {width}, layers {depth}: give an even width and at least one layer")
    return Shape(own, width, depth, wanted.classes or rows, found.space)


def predict(settings: Predict, options: RunOptions) -> Any:
    """The ``predict`` verb. Raises UserError."""
    return predicting.predict(*loaded(settings, settings.space), settings, options)


def export(settings: Export, options: RunOptions) -> dict[str, Any]:
    """The ``export`` verb. Raises UserError."""
    return exporting.export(*loaded(settings, settings.space), settings, options)


def loaded(settings: OfWeights, space: str) -> tuple[nn.Module, View]:
    """The network of a file of weights, and what it sees in tests: of pictures the centre of 256, small images whole.
    Raises UserError.
    """
    file, arch = weights_of(settings)
    net = network(arch, weights=file, which=settings.weights, space=space if arch and space != "small" else None)
    about, stored = read_metadata(file), read_checkpoint(file, settings.weights)
    names = class_names(about, file, stored.classes)
    if stored.kind == "imagenet":
        return net, View(EvalPictures(256, 224), 224, IMAGENET_MEAN, IMAGENET_STD, names)
    pixels = int(about.get("pixels", 32))
    return net, View(Square(pixels), pixels, MEAN, STD, names)
