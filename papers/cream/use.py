"""A Cream network in your own hands: from a name, a file or pasted text to the network itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from common.data.names import CLASSES, in_memory
from common.errors import UserError
from common.settings import refuse_idle
from common.spaces.use import check_classes, check_words, classes_of, refuse_both
from common.use import export as exporting
from common.use import predict as predicting
from common.use.names import class_names, trained_on, weights_of
from common.use.predict import Square, View
from common.use.settings import OfWeights
from common.weights.published import pinned
from common.weights.read import Checkpoint, read_checkpoint, read_metadata
from papers.cream.data.transforms import MEAN, STD, TestTransform
from papers.cream.networks.architectures import PUBLISHED, Architecture, of_weights, path_of, resolve
from papers.cream.networks.convolution import plain
from papers.cream.networks.derived import input_size, spec_of
from papers.cream.networks.networks import DerivedNetwork
from papers.cream.networks.weights import load_weights
from papers.cream.settings import Export, OneNetwork, Predict

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def architecture(source: Any) -> Architecture:
    """See ``papers.cream.architecture``."""
    if isinstance(source, Architecture):
        return source
    if isinstance(source, list | tuple):
        return Architecture("path", path_of(source))
    return resolve(str(source).strip())


_read = architecture  # below, ``architecture`` is what was given


class Wanted(NamedTuple):
    """What the caller may ask for beside the words that all papers' ``network`` has."""

    which: str = "auto"
    dropout: float = 0.0
    single_block: str = "auto"
    repeat_stage3: bool = False


def network(
    architecture: Any = None, *, dataset: str | None = None, classes: int | None = None,
    weights: str | Path | None = None, pretrained: bool = False, **sizes: Any,
) -> nn.Module:  # fmt: skip
    """See ``papers.cream.network``."""
    check_words(sizes, Wanted._fields, classes)
    wanted = Wanted(**sizes)
    found = None if architecture is None else _read(architecture)
    refuse_both(weights, pretrained)
    if pretrained:
        if found is None or found.name not in PUBLISHED:
            raise UserError(f"pretrained weights are those of {', '.join(PUBLISHED)}; name one as the architecture")
        weights = pinned(f"cream-{found.name}")
    if weights is None:
        if found is None:
            raise UserError(f"no architecture given; choose one of {', '.join(PUBLISHED)}, a path, a file, or weights")
        return _made(found, classes or _classes(found, dataset), wanted, wanted.dropout)
    file = str(weights)
    found = found or of_weights(file)
    held = _rows(read_checkpoint(file, wanted.which)) or classes or _classes(found, dataset)
    asked = classes or (
        None if dataset is None or dataset == read_metadata(file).get("dataset") else CLASSES.get(dataset)
    )
    check_classes(file, held, asked)
    made = _made(found, held, wanted, wanted.dropout)
    load_weights(made, file, wanted.which)
    return made


def _rows(held: Checkpoint) -> int:
    """Outputs of a file's classifier; 0 where it has none."""
    head = held.tensors.get("classifier.weight", held.tensors.get("classifier.1.weight"))
    return 0 if head is None else len(head)


def _made(found: Architecture, classes: int, flags: Wanted | OneNetwork, dropout: float = 0.0) -> DerivedNetwork:
    """flags: how the entries of its path are read."""
    made = DerivedNetwork(spec_of(found, classes, flags.single_block, flags.repeat_stage3), dropout)
    plain(made)
    return made.eval()


def _classes(found: Architecture, dataset: str | None) -> int:
    """Of the set or folder that is asked for, else of the file's, else ImageNet's. Raises UserError."""
    if (dataset is None or dataset == found.dataset) and found.classes:
        return found.classes
    name = dataset or found.dataset or "imagenet"
    return CLASSES[name] if name in CLASSES else classes_of(name)


class Held(NamedTuple):
    """A file of weights, loaded."""

    file: Path
    found: Checkpoint
    architecture: Architecture
    network: DerivedNetwork


def held_network(asked: OfWeights, flags: OneNetwork) -> Held:
    """The network of a file of weights. flags: how the entries of its path are read. Raises UserError."""
    file, named = weights_of(asked)
    found = resolve(named) if named else of_weights(str(file))
    held = read_checkpoint(file, asked.weights)
    if named and held.metadata.get("architecture") and of_weights(str(file)).path != found.path:
        raise UserError(f"{held.source} holds another architecture than --arch {named}; leave the flag out")
    made = _made(found, _rows(held), flags)
    load_weights(made, str(file), asked.weights)
    return Held(file, held, found, made)


def predict(settings: Predict, options: RunOptions) -> Any:
    """The ``predict`` verb. Raises UserError."""
    held = held_network(settings, settings)
    view = view_of(held, settings.interpolation)
    if isinstance(view.transform, Square):
        refuse_idle(settings, {"interpolation": "weights of pictures, not of images in memory"}, options.given)
    return predicting.predict(held.network, view, settings, options)


def export(settings: Export, options: RunOptions) -> dict[str, Any]:
    """The ``export`` verb. Raises UserError."""
    held = held_network(settings, settings)
    return exporting.export(held.network, view_of(held), settings, options)


def view_of(held: Held, interpolation: str = "bicubic") -> View:
    """What the network sees in tests: of a set held in memory whole pictures at its size, else the centre."""
    about, dataset = held.found.metadata, trained_on(held.found.metadata, held.file)
    size = input_size(held.architecture, held.architecture.resolution or 0, dataset)
    transform = Square(size) if dataset and in_memory(dataset) else TestTransform(size, interpolation)
    return View(transform, size, MEAN, STD, class_names(about, held.file, held.network.classes))
