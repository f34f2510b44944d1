"""What a weights file is of: its own record says so, or its tensors and, where several sets fit, the user.

Own files carry architecture, set, classes, width and depth. The released ones do not: network, width, depth and
classes are read off their tensors, and a file without a record is taken to be of the set that the released files with
that many classes are of, unless the user names another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from common.data.names import exists, other_set
from common.errors import UserError
from common.run.folder import say
from common.spaces.darts.genotype import Genotype
from common.spaces.darts.weights import Form, form_of
from common.spaces.use import check_space
from common.weights.read import Checkpoint, read_checkpoint
from papers.nsas.networks.architectures import load_genotype
from papers.nsas.settings import Evaluate

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

RELEASED_SETS = {10: "cifar10", 100: "cifar100", 1000: "imagenet"}


class CnnWeights(NamedTuple):
    """Weights of a derived CNN with the settings that they call for."""

    settings: Evaluate  # set, channels and layers filled in
    found: Checkpoint
    genotype: Genotype
    form: Form


def need_checkpoint(path: str) -> None:
    """One line instead of a traceback."""
    if not path:
        raise UserError("evaluate needs weights: give --checkpoint FILE (from train, or a released file)")
    if not exists(path):
        raise UserError(
            f"{path}: no such file; train first, or fetch it with python -m reproductions checkpoints fetch"
        )


def typed(options: RunOptions, name: str) -> bool:
    """Whether the user chose a setting (without a command line every setting counts)."""
    return options.given is None or name in options.given


def read_cnn(settings: Evaluate, options: RunOptions) -> CnnWeights:
    """Raises UserError: no CNN of this space, architecture unknown or another, a set that is not the file's."""
    need_checkpoint(settings.checkpoint)
    found = read_checkpoint(settings.checkpoint, settings.weights)
    check_space(found, "darts")
    form = form_of(found)
    genotype = architecture_of(settings.arch, found, "darts", Genotype.from_dict, load_genotype)
    released = RELEASED_SETS.get(form.classes, "")
    dataset = set_of(settings.dataset, "dataset", found.metadata, released, options, found.source)
    channels, layers = settings.channels or form.channels, settings.layers or form.layers
    filled = replace(settings, dataset=dataset, channels=channels, layers=layers)
    return CnnWeights(filled, found, genotype, form)


def architecture_of(
    given: str, found: Checkpoint, space: str, from_record: Callable[[Any, str], Any], from_name: Callable[[str], Any]
) -> Any:
    """The architecture of the file's record, else the one that the user names. Raises UserError where they differ.

    from_record: (what an architecture file holds, its name) -> architecture. from_name: name or file -> the same.
    """
    said: Mapping[str, Any] = found.metadata
    if said.get("space", space) != space:
        raise UserError(f"{found.source} holds an architecture of space {said['space']!r}; {space!r} is needed here")
    own = from_record(said["architecture"], found.source) if said.get("architecture") else None
    if own is None and not given:
        raise UserError(f"{found.source} does not say its architecture; name it with --arch (a name or a file)")
    named = from_name(given) if given else own
    if own is not None and named != own:
        raise UserError(f"{found.source} holds another architecture than --arch {given}; leave the flag out")
    return named


def set_of(chosen: str, flag: str, said: Mapping[str, Any], released: str, options: RunOptions, source: str) -> str:
    """The set to test on: the user's choice, if it can be the file's; else the file's own; else the released one's."""
    own = str(said.get("dataset", ""))
    if typed(options, flag):
        if own and other_set(own, chosen):
            raise UserError(f"{source} was trained on {own}, not on {chosen}; leave --{flag} out to test it on its set")
        return chosen
    if not own and not released:
        raise UserError(f"{source} does not say its set, and no released file is like it; name it with --{flag}")
    if (own or released) != chosen:
        say(f"{source}: tested on {own or released}, {'its own set' if own else 'as released files of this shape'}")
    return own or released
