"""EvNAS's architectures and networks in Python: what ``papers.evnas.architecture`` and ``papers.evnas.network`` do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from common.errors import UserError
from common.spaces.architecture import Record
from common.spaces.darts.genotype import Genotype
from common.spaces.nasbench201.cell import Cell201
from common.spaces.pasted import Given, given
from common.spaces.use import Wanted, build, check_words, chosen, of_given, of_values, read_weights, refuse_both
from common.use import export as exporting
from common.use import predict as predicting
from common.use.darts import derived_view
from common.use.names import weights_of
from common.use.predict import View
from common.use.settings import Export, OfWeights, Predict
from common.weights.published import pinned
from common.weights.read import read_checkpoint
from papers.evnas.networks.architectures import PUBLISHED, constants

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

PINNED = ("cifar10", "cifar100", "imagenet")  # sets of the authors' weights


def architecture(source: Any) -> Genotype | Cell201:
    """See ``papers.evnas.architecture``."""
    return _read(source)[0]


def _read(source: Any) -> tuple[Genotype | Cell201, Given]:
    """(architecture, what it was given as)."""
    if not isinstance(source, (str, Path)):
        return of_values(source), Given()
    found = given(source, PUBLISHED, "evnas")
    return of_given(found, "evnas", PUBLISHED), found


def network(
    architecture: Any = None, *, dataset: str | None = None, classes: int | None = None,
    weights: str | Path | None = None, pretrained: bool = False, which: str = "auto", **sizes: Any,
) -> nn.Module:  # fmt: skip
    """See ``papers.evnas.network``."""
    check_words(sizes, {*Wanted._fields, "which"}, classes)
    named, source = _read(architecture) if architecture is not None else (None, Given())
    refuse_both(weights, pretrained)
    if pretrained:
        weights = pinned(pin_of(named, dataset or "cifar10"))
    found = read_weights(weights, "evnas", (), which)
    own = (
        of_values(found.metadata["architecture"], found.source) if found and "architecture" in found.metadata else None
    )
    said = Record.of(found.metadata if found else source.record)
    wanted = Wanted(dataset, classes, **sizes)
    picked = chosen(named, found, own, "evnas")
    return build(picked, wanted, said, found, lambda imagenet, _: (48, 14) if imagenet else (36, 20))


def predict(settings: Predict, options: RunOptions) -> Any:
    """The ``predict`` verb. Raises UserError."""
    return predicting.predict(*loaded(settings), settings, options)


def export(settings: Export, options: RunOptions) -> dict[str, Any]:
    """The ``export`` verb. Raises UserError."""
    return exporting.export(*loaded(settings), settings, options)


def loaded(settings: OfWeights) -> tuple[nn.Module, View]:
    """The network of a file of weights, and what it sees of a picture. Raises UserError."""
    file, arch = weights_of(settings)
    net = network(arch, weights=file, which=settings.weights)
    return net, derived_view(read_checkpoint(file, settings.weights), file, constants)


def pin_of(genotype: Any, dataset: str) -> str:
    """The id of the authors' weights of a published network. Raises UserError where they published none."""
    name = next((name for name in ("EvNASA", "EvNASB", "EvNASC") if PUBLISHED[name] == genotype), "")
    if not name or dataset not in PINNED:
        raise UserError(
            f"the authors published weights of EvNASA, EvNASB and EvNASC on {', '.join(PINNED)} only; leave out "
            f"pretrained, or name one of these"
        )
    return f"evnas-{dataset}-{name[-1].lower()}"
