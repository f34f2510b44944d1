"""What the weights of a derived network say of it: form, width, depth, classes (from the tensors), and its cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from common.errors import UserError
from common.spaces.darts.genotype import Genotype
from common.weights.read import Checkpoint


class Form(NamedTuple):
    """What the tensors of a derived network tell."""

    imagenet: bool  # two stems, 224 pixels; the folder's name need not say so
    channels: int
    layers: int
    classes: int


def form_of(found: Checkpoint) -> Form:
    """Form, width, depth and classes of a state dict. Raises UserError where it is of no derived network."""
    tensors = found.tensors
    imagenet = "stem0.3.weight" in tensors
    stem, head = tensors.get("stem0.3.weight" if imagenet else "stem.0.weight"), tensors.get("classifier.weight")
    cells = {int(key.split(".")[1]) for key in tensors if key.startswith("cells.") and key.split(".")[1].isdigit()}
    if stem is None or head is None or not cells:
        raise UserError(f"{found.source} holds no derived CNN of the DARTS space")
    return Form(imagenet, stem.shape[0] // (1 if imagenet else 3), max(cells) + 1, head.shape[0])


def genotype_of(found: Checkpoint, arch: str, load: Callable[[str], Genotype]) -> Genotype:
    """The cells that ``arch`` names (``load`` reads them), or those that the file says it has. Raises UserError where
    neither does.
    """
    if arch:
        return load(arch)
    cells = found.metadata.get("architecture")
    if cells is None:
        raise UserError(f"{found.source} does not say its architecture; name it with --arch (a name or a file)")
    return Genotype.from_dict(cells, found.source)


def check_classes(found: Checkpoint, classes: Sequence[str], dataset: str) -> None:
    """Raises UserError where the classifier's outputs are not the set's classes: their number, and their names where
    the file knows them.
    """
    weight, names = found.tensors.get("classifier.weight"), found.metadata.get("class_names")
    if weight is not None and weight.shape[0] != len(classes):
        raise UserError(
            f"{found.source}: its classifier has {weight.shape[0]} classes and {dataset} has {len(classes)}; name the "
            f"data set it is of with --dataset"
        )
    if names and list(names) != list(classes):
        other = next(pair for pair in zip(names, classes, strict=False) if pair[0] != pair[1])
        raise UserError(
            f"{found.source} was trained on {found.metadata.get('dataset')}, with a class {other[0]!r} where {dataset} "
            f"has {other[1]!r}; name its own set"
        )
