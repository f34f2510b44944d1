"""What a run keeps, and loops that know where they stand, and end there when they are asked to.

    run.keeps(supernet=supernet, optimizer=optimizer, archive=archive)   # named once; restored here if a state exists
    for epoch in run.epochs(settings.epochs):                           # saves after every epoch
        for step, (images, labels) in run.steps(train, epoch):          # shows progress; saves when it is time
            …the method…

These are tools that a loop calls; nothing calls back. A state is what every kept object holds (its ``state_dict``), the
global generators, and the position: the names and numbers of the loops the run was inside. A resumed run walks the
same code to the same place: a loop that was over before the position is passed over, the loops on the way start at
their saved number, and the generators are put back on arrival. What stands between two loops of one epoch is therefore
run again, and must give the same again: it may compute from what is kept, and counts are emptied where they are read
out, at the end of their loop, not before it.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from common.errors import Stopped
from common.run import distributed, seeds
from common.run.progress import Progress, say, shows

# seconds: a second Ctrl-C stops at once, unless it is the first one again, handed on by a launcher beside the terminal
AGAIN_S = 1.0
LOOK_EVERY = 64  # losses that wait on a GPU until they are looked at; as many steps a diverged run goes on at most

open_runs: list[Keeping] = []  # that this process has open and can save
_asked: list[tuple[float, BaseException]] = []  # to stop: when, and how it ends
_unseen: list[tuple[Any, Callable[[float], None]]] = []  # numbers on a device, and what looks at each


def ask(leaving: BaseException) -> None:
    """What a signal's handler calls: a run that is inside its loops goes on to the end of its step, saves and raises
    ``leaving`` there. Where no run is, or for a second Ctrl-C, ``leaving`` is raised at once.
    """
    now = time.monotonic()
    if not any(run.at_work for run in open_runs):
        raise leaving
    if not _asked:
        _asked.append((now, leaving))
        say("stopping as soon as this step is done and saved; Ctrl-C again stops at once")
    elif isinstance(leaving, KeyboardInterrupt) and now - _asked[0][0] > AGAIN_S:
        raise leaving


@contextlib.contextmanager
def stoppable(run: Keeping) -> Iterator[None]:
    """Inside, a request to stop waits until ``run`` has saved."""
    open_runs.append(run)
    try:
        yield
    finally:
        open_runs.remove(run)


def asked() -> bool:
    """Whether this process was asked to stop."""
    return bool(_asked)


def forget() -> None:
    """Nobody asks any more: another command begins."""
    _asked.clear()


def look_later(number: Any, look: Callable[[float], None]) -> None:
    """Call ``look`` with a number (a tensor [] on a device) before a state is written or a row logged, or after
    LOOK_EVERY of them: one wait for the device instead of one a step. What ``look`` raises, the run raises then, and
    nothing that came after the number is kept.
    """
    _unseen.append((number, look))
    if len(_unseen) >= LOOK_EVERY:
        look_now()


def look_now() -> None:
    """Look at all numbers that wait, in order."""
    if _unseen:
        import torch

        waiting, _unseen[:] = list(_unseen), []
        values = torch.stack([number.float() for number, _ in waiting]).tolist()
        for value, (_, look) in zip(values, waiting, strict=True):
            look(value)


class Values(SimpleNamespace):
    """Plain values (numbers, text, tensors, arrays, lists and dicts of them) under their names, to be kept together."""

    def state_dict(self) -> dict[str, Any]:
        """The values by name."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put saved values back; the names are those it was made with. Raises KeyError for others."""
        if set(state) != set(vars(self)):
            raise KeyError(f"saved values {sorted(state)}, here {sorted(vars(self))}")
        vars(self).update(state)


class Keeping:
    """The part of a run that restores, counts and saves; ``Run`` reads and writes its states and knows the time."""

    options: Any  # with the run's seed

    def __init__(self) -> None:
        _unseen.clear()  # what a run before this one left, which ended by an error
        self._kept: dict[str, Any] = {}
        self._loops: list[list[Any]] = []  # [name, number] of the loops the run is inside, outermost first
        self._target: list[list[Any]] = []  # position of the loaded state, while the run is on its way there
        self._saved: dict[str, Any] | None = None  # what it kept, until then
        self._looked = False  # whether a state was looked for
        self._tells: dict[str, Any] = {}  # what its weights are of, for who looks into the folder meanwhile

    def read_state(self) -> dict[str, Any] | None:
        """The newest good state, or None."""
        raise NotImplementedError

    def write_state(self, state: dict[str, Any]) -> None:
        """Write a state."""
        raise NotImplementedError

    def restore_generators(self) -> None:
        """Put the global generators back where the state that was read had them."""
        raise NotImplementedError

    def due(self) -> bool:
        """Whether it is time to save; the same answer in every process."""
        raise NotImplementedError

    @property
    def at_work(self) -> bool:
        """Whether the run is inside its loops, past what it has saved."""
        return bool(self._loops) and not self._target

    def starts(self) -> None:
        """The run is about to begin its first loop; it may say so."""

    # -- what is kept -----------------------------------------------------------------------------------------------

    def keeps(self, **things: Any) -> bool:
        """Name what the run keeps, and restore it where a state exists: after it is made, before it is changed.

        things: modules, optimisers, anything with ``state_dict`` and ``load_state_dict``, torch and NumPy generators,
        and lists and dicts, which are refilled in place. What is made inside a loop (the networks of a study, one after
        another) is named there; a name given again stands for the new thing, ``drops`` ends it. Returns whether it was
        restored. Raises TypeError for anything else, UserError where no state can be read.
        """
        for name, thing in things.items():
            if not _methods(thing):
                raise TypeError(f"{name} is a {type(thing).__name__} without state_dict and load_state_dict")
        self._kept.update(things)
        if not self._looked:
            self._looked = True
            self.starts()
            saved = self.read_state()
            if saved is not None:
                self._saved, self._target = saved["kept"], [list(loop) for loop in saved["position"]]
        found = self._saved is not None and set(things) <= set(self._saved)
        if self._saved is not None and found:
            for name, thing in things.items():
                _restore(thing, self._saved[name])
        if not self._target:
            self._arrived()
        return found

    def drops(self, *names: str) -> None:
        """The run keeps these no longer."""
        for name in names:
            self._kept.pop(name, None)

    def tells(self, about: Mapping[str, Any], **places: str) -> None:
        """What the weights in a state are of, so that the folder can be looked into before the run has ended.

        about: as ``save_weights`` is given it at the end. places: kind of weights ("raw", "ema") -> where they stand
        among what is kept, dotted: raw="network.net".
        """
        self._tells = {"about": dict(about), "places": {kind: place.split(".") for kind, place in places.items()}}

    def _arrived(self) -> None:
        if self._saved is not None:
            self._saved, self._target = None, []
            self.restore_generators()

    def save_now(self) -> None:
        """Write what is kept and where the run stands; every process of the job calls it at the same place."""
        look_now()
        self.write_state({
            "kept": {name: _state(thing) for name, thing in self._kept.items()},
            "position": [list(loop) for loop in self._loops],
            "tells": self._tells,
        })  # fmt: skip

    # -- loops ------------------------------------------------------------------------------------------------------

    def epochs(self, count: int, name: str = "epoch") -> Iterator[int]:
        """0 … count - 1; the run is saved after each."""
        with self._loop(name) as start:
            if start is None:
                return
            with contextlib.closing(Progress(name, count, start)) as progress:
                for number in range(start, count):
                    self._loops[-1][1] = number
                    yield number
                    progress.done()
                    self._loops[-1][1] = number + 1
                    self.save_now()
                    self._leave()

    def steps(self, batches: Any, epoch: int, name: str = "step") -> Iterator[tuple[int, Any]]:
        """(number, batch) of one epoch of ``batches`` (an object with ``epoch(number, start)`` and a length).

        In several processes the chance of a step is made a function of (seed, process, epoch, step) before it.
        """
        with self._loop(name) as start:
            if start is None:
                return
            with contextlib.closing(Progress(name, len(batches), start)) as progress:
                for number, batch in enumerate(batches.epoch(epoch, start), start):
                    seeds.step_chance(self.options.seed, epoch, number)
                    yield number, batch
                    progress.done(batch)
                    self._after(number)

    def each(self, items: Sequence[Any] | int, name: str) -> Iterator[tuple[int, Any]]:
        """(number, item) of a sequence (or the numbers below a count), such as the candidates of a generation."""
        with self._loop(name) as start:
            if start is None:
                return
            sequence = range(items) if isinstance(items, int) else items
            with contextlib.closing(Progress(name, len(sequence), start)) as progress:
                for number in range(start, len(sequence)):
                    yield number, sequence[number]
                    progress.done()
                    self._after(number)

    def shows(self, batches: Any, name: str) -> Iterator[Any]:
        """One pass over ``batches`` (as ``steps`` takes them) with its progress shown; no place of it is kept."""
        self.starts()
        return shows(batches, name)

    def once(self, name: str) -> bool:
        """Whether a part that is no loop is still to be done: False where the saved position lies after it."""
        depth = len(self._loops)
        return not (self._target and depth < len(self._target) and self._target[depth][0] != name)

    def _after(self, number: int) -> None:
        self._loops[-1][1] = number + 1
        if self.due():
            self.save_now()
            self._leave()

    def _leave(self) -> None:
        """After a save: end here where any process of the job was asked to."""
        if distributed.anywhere(asked()):
            raise _asked[0][1] if _asked else Stopped

    @contextlib.contextmanager
    def _loop(self, name: str) -> Iterator[int | None]:
        """Enter a loop: the number it starts at, None where it was over before the saved position."""
        depth, start = len(self._loops), 0
        if self._target:
            if self._target[depth][0] != name:
                yield None
                return
            start = int(self._target[depth][1])
            if depth == len(self._target) - 1:
                self._arrived()
        self._loops.append([name, start])
        try:
            yield start
        finally:
            del self._loops[depth:]


def _methods(thing: Any) -> bool:
    return hasattr(thing, "state_dict") or _generator(thing) or isinstance(thing, list | dict)


def _generator(thing: Any) -> bool:
    torch = sys.modules.get("torch")
    return isinstance(thing, np.random.RandomState) or (torch is not None and isinstance(thing, torch.Generator))


def _state(thing: Any) -> Any:
    if isinstance(thing, list | dict):
        return thing
    if isinstance(thing, np.random.RandomState):
        name, keys, position, has_gauss, gauss = thing.get_state()
        return [name, np.asarray(keys), int(position), int(has_gauss), float(gauss)]
    return thing.get_state() if _generator(thing) else thing.state_dict()


def _restore(thing: Any, state: Any) -> None:
    if isinstance(thing, list):
        thing[:] = state
    elif isinstance(thing, dict):
        thing.clear()
        thing.update(state)
    elif isinstance(thing, np.random.RandomState):
        thing.set_state(tuple(state))
    elif _generator(thing):
        thing.set_state(state.cpu())
    else:
        thing.load_state_dict(state)
