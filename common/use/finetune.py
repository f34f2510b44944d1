"""A training that starts from weights instead of from scratch.

Architecture and sizes are the file's; flags that say otherwise are refused. Of other classes the classifier (and an
auxiliary head) starts anew. Only weights and running statistics are taken: the optimiser, the schedule and an average
of the weights begin as in every training, the average from the weights that were loaded. What a run keeps afterwards
is its own, so that it goes on after a kill like any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from common.errors import UserError
from common.run.folder import say
from common.spaces.use import read_weights
from common.use.names import file_given, same_classes, trained_on
from common.weights.read import Checkpoint, load_strict

S = TypeVar("S")
CLASSIFIER, AUXILIARY = "classifier.", "auxiliary_head."
SPOKEN = {CLASSIFIER: "the classifier", AUXILIARY: "the auxiliary head"}


@dataclasses.dataclass(frozen=True)
class Start:
    """Weights that a training starts from.

    tensors: under the names of the network that is trained. held: outputs of the file's classifier.
    """

    file: Path
    found: Checkpoint
    tensors: Mapping[str, Tensor]
    held: int

    def into(self, model: nn.Module, classes: Sequence[str], dataset: str) -> dict[str, Any]:
        """Load them into the model that is to be trained, and say what starts anew; what result.json says of it.

        classes: names of the classes of the training, dataset: its set. Raises UserError where anything but the heads
        does not fit; the model is then untouched.
        """
        same = same_classes(self.found.metadata, self.file, self.held, classes)
        own = model.state_dict()
        heads = {head: {k: v for k, v in own.items() if k.startswith(head)} for head in (CLASSIFIER, AUXILIARY)}
        anew = [head for head, entries in heads.items() if entries and not (same and self._has(entries))]
        absent = [head for head, entries in heads.items() if not entries]
        given = {k: v for k, v in self.tensors.items() if not k.startswith((*anew, *absent))}
        given |= {k: v for head in anew for k, v in heads[head].items()}
        load_strict(model, given, drop=(), source=self.found.source)
        spoken = " and ".join(SPOKEN[head] for head in anew)
        if anew and not same:
            before = trained_on(self.found.metadata, self.file) or "another set"
            say(
                f"{self.found.source} tells the {self.held} classes of {before} apart, {dataset} has {len(classes)} "
                f"others: {spoken} {'starts' if len(anew) == 1 else 'start'} anew, all else is taken"
            )
        elif anew:
            say(f"{self.found.source} has no such head: {spoken} starts anew, all else is taken")
        else:
            say(f"{self.found.source}: all weights are taken, the classifier's too")
        return {
            "classes": self.held, "weights": self.found.weights or "as they are",
            "starts_anew": [head.rstrip(".") for head in anew],
        }  # fmt: skip

    def _has(self, entries: Mapping[str, Tensor]) -> bool:
        held = self.tensors
        return all(k in held and held[k].shape == v.shape for k, v in entries.items())


def read_start(checkpoint: str, paper: str, modules: Iterable[str] = ()) -> tuple[Path, Checkpoint]:
    """(the file, its content) of ``--checkpoint``: a file, or the folder of a training. Raises UserError."""
    path = file_given(checkpoint)
    if path.is_dir():
        raise UserError(f"--checkpoint {checkpoint}: this training is unfinished; finish it first")
    found = read_weights(path, paper, modules)
    assert found is not None
    return path, found


def settled(settings: S, given: frozenset[str] | None, said: Mapping[str, Any], source: str, **fixed: Any) -> S:
    """The settings with what a file of weights says of its network.

    said: setting -> the file's value. fixed: settings that take a value without a look at the user's. given: see
    ``RunOptions``; None (no command line): what differs from its default counts. Raises UserError where the user says
    something else.
    """
    for name, own in said.items():
        value = getattr(settings, name)
        if value != own and asked(settings, given, name):
            flag = f"--{name.replace('_', '-')} {value}"
            raise UserError(f"{flag}: {source} has {name.replace('_', ' ')} {own}; leave the flag out")
    return dataclasses.replace(settings, **{**said, **fixed})  # type: ignore[type-var]


def asked(settings: Any, given: frozenset[str] | None, name: str) -> bool:
    """Whether the user chose a setting; without a command line, whether it differs from its default."""
    if given is not None:
        return name in given
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    return getattr(settings, name) != defaults[name]


def arch_asked(settings: Any, given: frozenset[str] | None) -> str:
    """The architecture that the user names beside the weights, or ""; a default names none."""
    return str(settings.arch) if asked(settings, given, "arch") else ""
