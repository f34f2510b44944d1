"""Networks of the DARTS space and of NAS-Bench-201 in the user's own hands: what the papers' ``network`` calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from common.data.names import canonical, classes_of
from common.errors import UserError
from common.run.state import is_finished
from common.spaces.architecture import Record
from common.spaces.darts.genotype import Genotype, genotype
from common.spaces.darts.network import derived
from common.spaces.darts.plain import plain as plain_module
from common.spaces.darts.weights import form_of
from common.spaces.nasbench201.cell import Cell201, cell, is_cell_text
from common.spaces.nasbench201.plain import PlainNetwork
from common.spaces.pasted import Call, Given, plain
from common.weights.read import Checkpoint, load_strict, read_checkpoint
from common.words import hint

SPACES = ("darts", "nasbench201")
SPACE_FLAGS = {"darts": "", "nasbench201": "nb201", "darts-rnn": "ptb"}  # of commands with networks of several spaces
CHANNEL_WORDS = ("in_channels", "in_chans", "input_channels", "in_ch")  # as other programs call it


def of_values(value: Any, where: str = "") -> Genotype | Cell201:
    """The cells that plain values (or text) are of. Raises UserError with the position of what is wrong."""
    if isinstance(value, (Genotype, Cell201)):
        return value
    if isinstance(value, str):
        if is_cell_text(value):
            return cell(value, where)
        value = plain(value, where)
    of_names = isinstance(value, (list, tuple)) and not isinstance(value, Call) and not hasattr(value, "normal")
    if isinstance(value, int) or (of_names and (len(value) != 4 or any(isinstance(v, (int, str)) for v in value))):
        return cell(value, where)
    return genotype(value, where)


def of_given(found: Given, paper: str, published: Mapping[str, Any]) -> Any:
    """The architecture that a name, a file or a text is of. Raises UserError."""
    if found.name:
        return published[found.name]
    if found.space and found.space not in SPACES:
        raise UserError(f"{found.where} is of space {found.space!r}; {paper} reads {', '.join(SPACES)}")
    if found.space == "darts":
        return genotype(found.value, found.where)
    return of_values(found.text or found.value, found.where)


def file_of(weights: str | Path) -> Path:
    """The file itself, or the weights in a training's folder; the folder of one that is unfinished (its last state is
    what ``read_checkpoint`` reads).
    """
    path = Path(weights)
    return path / "weights.safetensors" if path.is_dir() and is_finished(path) else path


def refuse_both(weights: Any, pretrained: bool) -> None:
    """Raise UserError where weights are given and the authors' are asked for."""
    if pretrained and weights is not None:
        raise UserError("pretrained and weights are both given; leave one out")


def check_words(given: Mapping[str, Any], known: Iterable[str], classes: int | None) -> None:
    """Raise UserError for a word that a paper's ``network`` does not have, and for classes below 1.

    given: the words beside those that all papers have. known: the paper's own.
    """
    names = sorted({"architecture", "dataset", "classes", "weights", "pretrained", *known})
    for word in given:
        if word in CHANNEL_WORDS:
            raise UserError(
                f"{word}: these networks take three channels; repeat a grey one three times, or put another first "
                f"convolution into the module that network returns"
            )
        if word not in names:
            raise UserError(f"network has no word {word!r}{hint(word, names)}; it has {', '.join(names)}")
    if classes is not None and classes < 1:
        raise UserError(f"classes must be 1 or more, not {classes}; without it the set or the file says them")


def check_space(found: Checkpoint, wanted: str) -> None:
    """Raise UserError where weights say that they are of another space than a command takes."""
    held = found.metadata.get("space")
    if held in SPACE_FLAGS and held != wanted:
        flag = f"add --space {SPACE_FLAGS[held]}" if SPACE_FLAGS[held] else "leave --space out"
        raise UserError(f"{found.source} holds a network of space {held}, not {wanted}; {flag}")


def check_classes(source: Any, held: int, asked: int | None) -> None:
    """Raise UserError where other classes are asked for (None, 0: none are) than a file's classifier has."""
    if asked and asked != held:
        raise UserError(
            f"{source} has a classifier of {held} classes, {asked} are asked for; leave classes and dataset out, and "
            f"give the network another classifier afterwards"
        )


def read_weights(
    weights: str | Path | None, paper: str, modules: Any = (), which: str = "auto"
) -> Checkpoint | None:  # fmt: skip
    """The weights of a file or of a training's folder; None for None. which: ``ema``, ``raw`` or ``auto`` of a file
    with both. Raises UserError.
    """
    if weights is None:
        return None
    path = Path(weights)
    found = read_checkpoint(path, which, modules)
    if (own := found.metadata.get("paper", paper)) != paper:
        raise UserError(f"{path} holds weights of {own}; give a file of {paper}")
    return found


def chosen(architecture: Any, found: Checkpoint | None, own: Any, paper: str) -> Any:
    """The architecture that is named, or the one that the weights say they are of. Raises UserError."""
    if architecture is None and own is None:
        if found is not None:
            raise UserError(
                f"{found.source} does not say its architecture; name it: --arch, or network(architecture, weights=…)"
            )
        raise UserError(
            f"name an architecture: a published name, a file or pasted text; the README of {paper} lists the names"
        )
    if architecture is not None and own is not None and architecture != own:
        raise UserError(f"{found.source if found else 'the file'} holds another architecture than the one named")
    return own if architecture is None else architecture


class Wanted(NamedTuple):
    """What the caller asks for; None, 0 and "" leave it to the file, then to the paper."""

    dataset: str | None = None
    classes: int | None = None
    channels: int = 0
    layers: int = 0  # cells; of NAS-Bench-201: cells of each of the three stages
    auxiliary: bool = False
    form: str = ""  # "cifar" or "imagenet"


def build(
    architecture: Genotype | Cell201, wanted: Wanted, said: Record, found: Checkpoint | None,
    size: Callable[[bool, str], tuple[int, int]],
) -> nn.Module:  # fmt: skip
    """The plain network in eval mode, with the weights of ``found`` where given.

    size: (ImageNet form, set) -> the paper's channels and layers. Raises UserError: weights that do not fit or are of
    other classes than asked for, unknown sets, no such form.
    """
    if wanted.form not in ("", "cifar", "imagenet"):
        raise UserError(f"form must be 'cifar' or 'imagenet', not {wanted.form!r}")
    dataset = canonical(wanted.dataset or said.dataset or "cifar10")
    same = wanted.dataset is None or dataset == canonical(said.dataset or dataset)
    tensors = found.tensors if found is not None else {}
    held = int(tensors["classifier.weight"].shape[0]) if "classifier.weight" in tensors else 0
    file_classes = held or said.classes
    classes = wanted.classes or (file_classes if same and file_classes else classes_of(dataset))
    if isinstance(architecture, Cell201):
        network: nn.Module = cell_network(architecture, wanted, found, classes)
    else:
        form = form_of(found) if found is not None else None
        imagenet = form.imagenet if form else (said.imagenet or dataset == "imagenet")
        if wanted.form:
            imagenet = wanted.form == "imagenet"
        width, depth = size(imagenet, dataset)
        width = wanted.channels or (form.channels if form else said.channels) or width
        depth = wanted.layers or (form.layers if form else said.layers) or depth
        network = plain_module(derived(architecture, imagenet, classes, width, depth, wanted.auxiliary))
    if found is not None:
        check_classes(found.source, held or classes, classes)
        load_strict(network, found.tensors, () if wanted.auxiliary else ("auxiliary_head.",), source=found.source)
    return network.eval()


def cell_network(architecture: Cell201, wanted: Wanted, found: Checkpoint | None, classes: int) -> PlainNetwork:
    """The benchmark's network (C = 16, N = 5), or one of the size of the weights."""
    if wanted.auxiliary or wanted.form:
        raise UserError("a network of NAS-Bench-201 has no auxiliary head and one form only; leave these words out")
    width, depth = cell_size(found) if found is not None else (16, 5)
    return PlainNetwork(architecture.operations, wanted.channels or width, wanted.layers or depth, classes)


def cell_size(found: Checkpoint) -> tuple[int, int]:
    """(channels, cells of a stage) of the benchmark's network that weights are of. Raises UserError for others."""
    stem = found.tensors.get("stem.0.weight")
    if stem is None or "lastact.0.weight" not in found.tensors:
        raise UserError(f"{found.source} holds no network of a NAS-Bench-201 cell")
    blocks = [int(key.split(".")[1]) for key in found.tensors if ".conv_a." in key]  # between the stages
    return int(stem.shape[0]), min(blocks, default=5)
