"""NSAS's architectures and networks in Python: what ``papers.nsas.architecture`` and ``papers.nsas.network`` do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from common.errors import UserError
from common.spaces.architecture import Record
from common.spaces.darts.genotype import Genotype, mapping_of, pairs_of
from common.spaces.nasbench201.cell import Cell201, cell
from common.spaces.pasted import Call, Given, given, plain
from common.spaces.use import Wanted, build, check_words, chosen, of_given, of_values, read_weights, refuse_both
from common.use import export as exporting
from common.use import predict as predicting
from common.use.darts import derived_view
from common.use.names import weights_of
from common.use.predict import View
from common.use.settings import Export, OfWeights, Predict
from common.weights.published import pinned
from common.weights.read import Checkpoint, load_strict, read_checkpoint
from papers.nsas.data import constants
from papers.nsas.networks.architectures import CNN, NB201, size_of
from papers.nsas.recurrent.architecture import RECURRENT, STEPS, Recurrent, recurrent_of
from papers.nsas.recurrent.evaluate import PICKLED_CLASSES
from papers.nsas.recurrent.model import PlainModel

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

WORDS, WIDTH = {"ptb": 10_000}, 850  # of the recurrent network: known texts, units
PUBLISHED: dict[str, Genotype | Cell201 | Recurrent] = {
    **CNN, **{name: cell(code) for name, code in NB201.items()},
    **{f"PTB_{name}": found for name, found in RECURRENT.items()},
}  # fmt: skip
PINNED = {
    ("Random_NSAS", "cifar10"): "nsas-cifar10", ("Random_NSAS", "cifar100"): "nsas-cifar100",
    ("Random_NSAS_C", "cifar10"): "nsas-c-cifar10", ("Random_NSAS_C", "cifar100"): "nsas-c-cifar100",
    ("Random_NSAS_C", "imagenet"): "nsas-c-imagenet-linear-run2", ("PTB_Random_NSAS", "ptb"): "nsas-ptb",
    ("PC_DARTS_image", "imagenet"): "nsas-pcdarts-image-imagenet", ("PDARTS", "imagenet"): "nsas-pdarts-imagenet",
    ("PC_DARTS_cifar", "imagenet"): "nsas-pcdarts-cifar-imagenet",
}  # fmt: skip
"""(name, set) -> the authors' weights; of several the ones with the lowest error."""


def architecture(source: Any) -> Genotype | Cell201 | Recurrent:
    """See ``papers.nsas.architecture``."""
    return _read(source)[0]


def _read(source: Any) -> tuple[Genotype | Cell201 | Recurrent, Given]:
    """(architecture, what it was given as)."""
    if not isinstance(source, (str, Path)):
        return _of_values(source), Given()
    found = given(source, PUBLISHED, "nsas")
    if found.space == "darts-rnn":
        return recurrent_of(found.value, found.where), found
    if found.name or found.space:
        return of_given(found, "nsas", PUBLISHED), found
    value = found.text or found.value
    if isinstance(value, str) and "recurrent" in value:
        value = plain(value, found.where)
    return _of_values(value, found.where), found


def _of_values(value: Any, where: str = "") -> Genotype | Cell201 | Recurrent:
    """Recurrent cells are those that say ``recurrent``. Raises UserError."""
    keys = value.keywords if isinstance(value, Call) else value
    if not (hasattr(value, "recurrent") or (isinstance(keys, dict) and "recurrent" in keys)):
        return of_values(value, where)
    what = f"{where}: not a recurrent cell" if where else "not a recurrent cell"
    found = mapping_of(value, ("recurrent", "concat"), what)
    nodes = pairs_of(found["recurrent"], what)
    cells = {"recurrent": nodes, "concat": found.get("concat", range(1, STEPS + 1))}
    return recurrent_of(cells, where or "the text")


def network(
    architecture: Any = None, *, dataset: str | None = None, classes: int | None = None,
    weights: str | Path | None = None, pretrained: bool = False, which: str = "auto", width: int = 0, **sizes: Any,
) -> nn.Module:  # fmt: skip
    """See ``papers.nsas.network``."""
    check_words(sizes, {*Wanted._fields, "which", "width"}, classes)
    named, source = _read(architecture) if architecture is not None else (None, Given())
    refuse_both(weights, pretrained)
    if pretrained:
        weights = pinned(pin_of(named, dataset or ("ptb" if isinstance(named, Recurrent) else "cifar10")))
    found = read_weights(weights, "nsas", PICKLED_CLASSES, which)
    said_own = found.metadata.get("architecture") if found else None
    own = _of_values(said_own, found.source) if found and said_own else None
    picked = chosen(named, found, own, "nsas")
    said = Record.of(found.metadata if found else source.record)
    if isinstance(picked, Recurrent):
        if any(sizes.values()):
            raise UserError("a recurrent network has width and classes (its words) only; leave the other words out")
        return recurrent_network(picked, dataset or said.dataset or "ptb", classes, width, said, found)
    if width:
        raise UserError("width is a word of recurrent networks; of others: channels")
    name = next((name for name, cells in CNN.items() if cells == picked), "Random_NSAS")
    wanted = Wanted(dataset, classes, **sizes)
    return build(picked, wanted, said, found, lambda imagenet, _: size_of("imagenet" if imagenet else "cifar10", name))


def recurrent_network(
    cell: Recurrent, text: str, classes: int | None, width: int, said: Record, found: Checkpoint | None
) -> PlainModel:
    """The language model in eval mode; words and width come from the weights where given. Raises UserError."""
    tied = dict(found.tensors) if found else {}
    held = tied.get("encoder.weight")
    if found is not None and held is None:
        raise UserError(f"{found.source} holds no recurrent network")
    rows, units = held.shape if held is not None else (said.classes if text == said.dataset else 0, said.channels)
    words = classes or rows or WORDS.get(text, 0)
    if not words:
        raise UserError(f"how many words {text!r} has is not known; give classes=N")
    if held is not None and words != rows:
        raise UserError(f"{found.source if found else text} knows {rows} words, {words} are asked for; leave them out")
    model = PlainModel(cell, words, width or units or WIDTH)
    if found is not None:
        tied.setdefault("decoder.weight", tied["encoder.weight"])
        load_strict(model, tied, drop=(), source=found.source)
    return model.eval()


def predict(settings: Predict, options: RunOptions) -> Any:
    """The ``predict`` verb. Raises UserError, for recurrent networks too: they have nothing to say of a picture."""
    return predicting.predict(*loaded(settings), settings, options)


def export(settings: Export, options: RunOptions) -> dict[str, Any]:
    """The ``export`` verb. Raises UserError."""
    return exporting.export(*loaded(settings), settings, options)


def loaded(settings: OfWeights) -> tuple[nn.Module, View]:
    """The network of a file of weights, and what it sees of a picture. Raises UserError."""
    file, arch = weights_of(settings)
    net = network(arch, weights=file, which=settings.weights)
    if isinstance(net, PlainModel):
        raise UserError(
            f"{file} is a language model: it sees words, not pictures; its perplexities: evaluate --space ptb "
            f"--checkpoint {file}, its logits from Python: network(weights={str(file)!r})"
        )
    return net, derived_view(read_checkpoint(file, settings.weights), file, constants)


def pin_of(architecture: Any, dataset: str) -> str:
    """The id of the authors' weights of a published network. Raises UserError where they published none."""
    for (name, known), identifier in PINNED.items():
        if PUBLISHED[name] == architecture and known == dataset:
            return identifier
    listed = ", ".join(f"{name} on {known}" for name, known in PINNED)
    raise UserError(f"the authors' weights are of {listed}; leave out pretrained, or name one of these")
