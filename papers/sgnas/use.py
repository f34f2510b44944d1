"""An SGNAS network in your own hands: from a name, a file or kernel lists to the network itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from common.data.names import in_memory
from common.data.pictures.batches import IMAGENET_MEAN, IMAGENET_STD
from common.errors import UserError
from common.spaces.use import check_classes, check_words, classes_of, refuse_both
from common.use import export as exporting
from common.use import predict as predicting
from common.use.names import class_names, trained_on, weights_of
from common.use.predict import Square, View
from common.use.settings import OfWeights
from common.weights.published import pinned
from common.weights.read import Checkpoint, read_checkpoint
from papers.sgnas.data.sets import CIFAR_MEAN, CIFAR_STD, TESTED
from papers.sgnas.describe import DATASETS
from papers.sgnas.evaluate import CLASSIFIER, load_weights
from papers.sgnas.networks.architectures import PUBLISHED, SPACE, Architecture, check_kernels, macro_for, read
from papers.sgnas.networks.derived import DROPOUT, Network
from papers.sgnas.networks.layers import ACTIVATIONS
from papers.sgnas.networks.plain import plain_form
from papers.sgnas.settings import Export, Predict

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


class Wanted(NamedTuple):
    """What the caller asks for; None leaves it to the file, then to the set."""

    dataset: str | None
    classes: int | None
    macro: str | None = None
    se: bool | None = None
    activation: str | None = None
    which: str = "auto"
    dropout: float = DROPOUT
    bn_momentum: float = 0.1


def network(
    architecture: Any = None, *, dataset: str | None = None, classes: int | None = None,
    weights: str | Path | None = None, pretrained: bool = False, **sizes: Any,
) -> nn.Module:  # fmt: skip
    """See ``papers.sgnas.network``."""
    check_words(sizes, Wanted._fields, classes)
    wanted = Wanted(dataset, classes, **sizes)
    found = None if architecture is None else read(architecture)
    refuse_both(weights, pretrained)
    if pretrained:
        if found is None or found.name not in PUBLISHED:
            raise UserError(f"pretrained weights are those of {', '.join(PUBLISHED)}; name one as the architecture")
        weights = pinned(found.name.lower())
    held = None
    if weights is not None:
        held = read_checkpoint(weights, wanted.which)
        found = of_weights(found, held, wanted)
    if found is None:
        raise UserError(f"no architecture given; use {', '.join(PUBLISHED)}, kernel lists, a file, or weights")
    name = dataset or found.dataset or "imagenet"
    known, usual = DATASETS.get(name, ("imagenet", None))
    structure = macro_for(wanted.macro or found.macro or known)
    kernels = check_kernels(found.kernels, structure)
    own = found.classes if held is not None or name == found.dataset else None
    rows = classes or own or usual or classes_of(name)
    imagenet = name == "imagenet"
    with_se = wanted.se if wanted.se is not None else imagenet if found.se is None else found.se
    activation = wanted.activation or found.activation or ("hswish" if imagenet else "relu")
    if activation not in ACTIVATIONS:
        raise UserError(f"unknown activation {activation!r}; use one of {', '.join(ACTIVATIONS)}")
    made = Network(structure, kernels, rows, with_se, activation, wanted.bn_momentum, wanted.dropout).eval()
    if held is not None:
        load_weights(made, held)
    return plain_form(made, with_se, wanted.bn_momentum)


def of_weights(found: Architecture | None, held: Checkpoint, wanted: Wanted) -> Architecture:
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
    for word, value, own in (("se", wanted.se, se), ("activation", wanted.activation, activation)):
        if value is not None and own != "" and value != own:
            raise UserError(f"{word} {value}: {held.source} has {word} {own}; leave it out")
    head = held.tensors.get(CLASSIFIER)
    rows, on = len(head) if head is not None else 0, wanted.dataset
    asked = wanted.classes or (DATASETS[on][1] if on in DATASETS and on != found.dataset else None)
    if rows:
        check_classes(held.source, rows, asked)
    return replace(found, classes=rows, se=se, activation=str(activation or wanted.activation or "hswish"))


def predict(settings: Predict, options: RunOptions) -> Any:
    """The ``predict`` verb. Raises UserError."""
    return predicting.predict(*loaded(settings, settings.activation), settings, options)


def export(settings: Export, options: RunOptions) -> dict[str, Any]:
    """The ``export`` verb. Raises UserError."""
    return exporting.export(*loaded(settings, settings.activation), settings, options)


def loaded(settings: OfWeights, activation: str) -> tuple[nn.Module, View]:
    """The network of a file of weights, and what it sees in tests: of a set held in memory whole pictures at its size,
    else the centre of 256. Raises UserError.
    """
    file, arch = weights_of(settings)
    net = network(arch, weights=file, which=settings.weights, activation=activation or None)
    held = read_checkpoint(file, settings.weights)
    on, names = trained_on(held.metadata, file), class_names(held.metadata, file, len(held.tensors[CLASSIFIER]))
    if on and in_memory(on):
        pixels = int(held.metadata.get("input_size", 32))
        return net, View(Square(pixels), pixels, CIFAR_MEAN, CIFAR_STD, names)
    return net, View(TESTED, TESTED.size, IMAGENET_MEAN, IMAGENET_STD, names)
