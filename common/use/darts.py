"""What weights of a derived DARTS network settle: for a training that starts from them, and for what sees pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from common.data.names import SMALL_SETS
from common.data.pictures.batches import IMAGENET_MEAN, IMAGENET_STD, EvalPictures
from common.errors import UserError
from common.spaces.darts.data import PICTURE_PIXELS
from common.spaces.darts.genotype import Genotype
from common.spaces.darts.settings import TrainDerived
from common.spaces.darts.weights import Form, form_of
from common.spaces.use import check_space
from common.use.finetune import Start, arch_asked, read_start, settled
from common.use.names import class_names, trained_on
from common.use.predict import Square, View
from common.weights import published
from common.weights.read import Checkpoint

S = TypeVar("S", bound=TrainDerived)
Constants = Callable[[str], tuple[tuple[float, ...], tuple[float, ...]]]


class DerivedStart(NamedTuple):
    """Weights that a derived network starts from, its cells and its form."""

    start: Start
    genotype: Genotype
    form: Form


def derived_start(
    settings: S, given: frozenset[str] | None, paper: str, load: Callable[[str], Genotype]
) -> tuple[S, DerivedStart | None]:
    """The settings with the file's width and depth, and the start; the settings alone without ``--checkpoint``.

    load: reads the architecture that a user names. Raises UserError where the file is of no such network, or does not
    say its cells and the user names none, or names others.
    """
    if not settings.checkpoint:
        return settings, None
    file, found = read_start(settings.checkpoint, paper)
    check_space(found, "darts")
    form, named = form_of(found), arch_asked(settings, given)
    held = found.metadata.get("architecture")
    own = Genotype.from_dict(held, found.source) if held is not None else None
    if own is None and not named:
        named = str(published.known(file).get("architecture", ""))
    if own is None and not named:
        raise UserError(f"{found.source} does not say its architecture; name it with --arch (a name or a file)")
    genotype = load(named) if named else own
    assert genotype is not None
    if own is not None and genotype != own:
        raise UserError(f"{found.source} holds another architecture than --arch {named}; leave the flag out")
    said = {"channels": form.channels, "layers": form.layers}
    settings = settled(settings, given, said, found.source, arch="" if own else named, checkpoint=str(file))
    return settings, DerivedStart(Start(file, found, found.tensors, form.classes), genotype, form)


def derived_view(found: Checkpoint, file: Any, constants: Constants) -> View:
    """What a derived network sees in tests: pictures of 224 pixels, or whole ones at the side of its training's images
    (32 where nobody says it). constants: name of a set of small images -> mean and std. A cell of NAS-Bench-201 is of
    small images too, with constants that its file says.
    """
    on, said = trained_on(found.metadata, file), found.metadata
    if "lastact.0.weight" in found.tensors:
        pixels, rows = int(said.get("pixels") or SMALL_SETS.get(on, 32)), len(found.tensors["classifier.weight"])
        mean, std = (tuple(said[key]) for key in ("mean", "std")) if "mean" in said else constants(on)
        return View(Square(pixels), pixels, mean, std, class_names(said, file, rows))
    form = form_of(found)
    names = class_names(found.metadata, file, form.classes)
    if form.imagenet:
        return View(EvalPictures(), PICTURE_PIXELS, IMAGENET_MEAN, IMAGENET_STD, names)
    pixels = int(found.metadata.get("pixels") or SMALL_SETS.get(on, 32))
    return View(Square(pixels), pixels, *constants(on), names)
