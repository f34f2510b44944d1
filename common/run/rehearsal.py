"""A plan is the run itself, rehearsed: the verb's own function, whose loops know their full length and go few turns.

``open_run`` gives a ``Rehearsal`` where a plan is asked for. It has the methods of a run, keeps and writes nothing, and
times the turns that it lets happen: of loops over batches, candidates and chunks the first ones, of epochs the first,
one in the middle and the last (all of them where they are few). The time of a whole loop is that of its turns, those
between two timed ones interpolated; loops inside loops multiply. What a loop appends to a kept list once a turn is
filled up with the last value, so that the code behind it finds as many values as it expects.

Steps begin with a part of a batch. Whole batches follow where time and memory allow it; elsewhere both are scaled up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import process_time
from typing import Any

from common.errors import UserError
from common.run import distributed, seeds
from common.run.device import Memory
from common.run.folder import Run
from common.run.keep import Values
from common.run.progress import images_of, say

ALL_EPOCHS = 5  # so few are all walked through
FIRST_S, AGAIN_S, WHOLE_S = 2.5, 0.8, 40.0  # seconds for the turns of a loop, the first time and later; for all
STEP_S = 4.0  # a whole batch may take so long
LEAST = 16  # images of a part of a batch, at least; of every share half of it


@dataclass
class Cost:
    """Seconds, and by loop (its names, outermost first) how many turns and images."""

    seconds: float = 0.0
    turns: dict[tuple[str, ...], float] = field(default_factory=dict)
    images: dict[tuple[str, ...], float] = field(default_factory=dict)

    def add(self, other: Cost, times: float = 1.0) -> None:
        """``times`` as much of another cost."""
        self.seconds += times * other.seconds
        for mine, more in ((self.turns, other.turns), (self.images, other.images)):
            for path, number in more.items():
                mine[path] = mine.get(path, 0.0) + times * number


@dataclass
class Loop:
    """A loop that is being walked through: its timed turns, and what the loops inside the present one cost."""

    path: tuple[str, ...]
    total: int
    began: float
    spread: bool = False  # whether the timed turns lie between the first and the last
    done: dict[int, Cost] = field(default_factory=dict)
    number: int | None = None  # the turn it is in
    turn_began: float = 0.0
    inner: Cost = field(default_factory=Cost)
    inner_wall: float = 0.0
    images: float = 0.0
    scale: float = 1.0  # whole batch / part of it
    ended: bool = False

    def cost(self) -> Cost:
        """Of all its turns. The first of several timed ones warms up and does not count."""
        found, numbers = Cost(), sorted(self.done)
        if not numbers:
            return found
        if not self.spread and len(numbers) > 1:
            first = self.done[numbers[0]]
            rest = [self.done[n].seconds for n in numbers[1:]]
            first.seconds = min(first.seconds, sum(rest) / len(rest))
        for low, high in pairwise(numbers):
            for turn in range(low, high):
                part = (turn - low) / (high - low)
                found.add(self.done[low], 1 - part)
                found.add(self.done[high], part)
        behind = self.total - numbers[-1]
        mean = Cost()
        for n in numbers if not self.spread else numbers[-1:]:
            mean.add(self.done[n], 1 / (len(numbers) if not self.spread else 1))
        if len(numbers) == self.total:
            mean = self.done[numbers[-1]]
        found.add(mean, behind)
        found.turns[self.path] = float(self.total)
        return found


class Timing:
    """All that is being rehearsed: the loops it is inside, outermost first; the first stands for the whole command."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.started = memory, time.monotonic()
        self.loops = [Loop((), 1, self.started, number=0)]
        self.cut = False  # whether a loop was left early
        self.failed = False  # whether an error ended the rehearsal
        self.scaled: dict[tuple[str, ...], tuple[int, int]] = {}  # (images timed, images of a batch)
        self.full: set[tuple[str, ...]] = set()  # whose batches are taken whole
        self.known: set[tuple[str, ...]] = set()  # loops that were walked through before
        self.slowest = 0.0
        self.share = 1.0  # cores that this process had, of the CPU
        self.notes: list[str] = []

    def enter(self, name: str, total: int, spread: bool = False) -> Loop:
        """A loop begins; with the first, all that a command can be refused for has been looked at, so it may speak."""
        if len(self.loops) == 1 and not self.known:
            say("rehearsing a few steps of every loop; this takes a minute, longer where one step does", rehearsed=True)
        loop = Loop((*self.loops[-1].path, name), total, time.monotonic(), spread)
        self.loops.append(loop)
        return loop

    def leave(self, loop: Loop) -> None:
        """It ends, and those inside it that have not."""
        if loop.ended:
            return
        while True:
            last = self.loops.pop()
            last.ended = True
            self.turned(last)
            self.known.add(last.path)
            self.cut = self.cut or len(last.done) < last.total
            outer, wall = self.loops[-1], time.monotonic() - last.began
            outer.inner.add(last.cost())
            outer.inner_wall += wall
            if last is loop:
                return

    def turned(self, loop: Loop) -> None:
        """The present turn of a loop is over."""
        if loop.number is None:
            return
        now = time.monotonic()
        cost = Cost()
        own = max(0.0, now - loop.turn_began - loop.inner_wall) * loop.scale
        cost.add(loop.inner)
        cost.seconds += own
        if loop.images:
            cost.images[loop.path] = loop.images
        loop.done[loop.number] = cost
        self.slowest = max(self.slowest, own / loop.scale)
        loop.number, loop.inner, loop.inner_wall, loop.images, loop.scale = None, Cost(), 0.0, 0.0, 1.0

    def turn(self, loop: Loop, number: int, began: float) -> None:
        """The next turn of a loop, whose item was asked for at ``began``."""
        loop.number, loop.turn_began = number, began

    def more(self, loop: Loop) -> bool:
        """Whether another turn of a loop may happen. All processes of a job get the same answer."""
        now, turns = time.monotonic(), len(loop.done)
        if turns == 0:
            return True
        spent, again = now - loop.began, loop.path in self.known
        late = now - self.started > WHOLE_S
        if again or late:
            going = not late and spent < AGAIN_S
        else:  # the first turn warms up
            going = spent < FIRST_S or (turns == 1 and spent < 3 * FIRST_S)
        return distributed.agree(going)


class Rehearsal(Run):
    """A run that goes few turns, keeps nothing and writes nothing."""

    def __init__(self, options: Any, settings: Any, extra: dict[str, Any], timing: Timing) -> None:
        super().__init__(options, settings, extra)
        self.writes, self.timing = False, timing
        timing.memory.place(options)

    def begin(self) -> None:
        """What the folder holds is looked at; another run's folder is refused."""
        self.recognise()
        if self.result is None and self._store.numbers():
            self.timing.notes.append(f"{self.folder} holds a state of this run, from which it would go on")
        if self.result is not None:
            self.timing.notes.append(f"{self.folder} holds this run's result already; --no-resume would repeat it")
        self.result = None

    def keeps(self, **things: Any) -> bool:
        self._kept.update(things)
        return False

    def save_now(self) -> None:
        return

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        return result

    # -- loops ------------------------------------------------------------------------------------------------------

    def epochs(self, count: int, name: str = "epoch") -> Iterator[int]:
        numbers = range(count) if count <= ALL_EPOCHS else (0, count // 2, count - 1)
        loop = self.timing.enter(name, count, spread=True)
        try:
            for number in numbers:
                if number and not distributed.agree(time.monotonic() - self.timing.started < WHOLE_S):
                    break
                self.timing.turn(loop, number, time.monotonic())
                yield number
                self.timing.turned(loop)
        finally:
            self.timing.leave(loop)

    def steps(self, batches: Any, epoch: int, name: str = "step") -> Iterator[tuple[int, Any]]:
        for number, batch in enumerate(few(self.timing, batches.epoch(epoch, 0), len(batches), name)):
            seeds.step_chance(self.options.seed, epoch, number)
            yield number, batch

    def each(self, items: Sequence[Any] | int, name: str) -> Iterator[tuple[int, Any]]:
        sequence = range(items) if isinstance(items, int) else items
        before = {key: len(found) for key, found in self._lists()}
        turns = 0
        for number, item in few(self.timing, enumerate(sequence), len(sequence), name, batches=False):
            yield number, item
            turns += 1
        if not 0 < turns < len(sequence):
            return
        sizes = [len(item) if isinstance(item, list) else 1 for item in sequence]  # of turns that processes share out
        for key, found in self._lists():
            grown = len(found) - before.get(key, 0)
            if grown == turns:
                found.extend([found[-1]] * (len(sequence) - turns))
            elif grown == sum(sizes[:turns]):
                found.extend([found[-1]] * sum(sizes[turns:]))

    def _lists(self) -> Iterator[tuple[str, list[Any]]]:
        """Kept lists, and the lists among kept values."""
        for name, thing in self._kept.items():
            if isinstance(thing, list):
                yield name, thing
            elif isinstance(thing, Values):
                yield from ((f"{name}.{key}", value) for key, value in vars(thing).items() if isinstance(value, list))


def few(timing: Timing, items: Iterable[Any], total: int, name: str, batches: bool = True) -> Iterator[Any]:
    """The first of ``total`` items, each timed; of batches at first a part."""
    loop, ended = timing.enter(name, total), False
    try:
        source = iter(items)
        while len(loop.done) < total and timing.more(loop):
            began = time.monotonic()
            item = next(source, None)
            if item is None:
                break
            whole = images_of(item) if batches else 0
            if whole and loop.path not in timing.full:
                item = part_of(item, whole, timing.scaled.get(loop.path, (LEAST, 0))[0])
            images = images_of(item) if batches else 0
            timing.turn(loop, len(loop.done), began)
            loop.images, loop.scale = float(whole), whole / images if images else 1.0
            timing.memory.begins()
            yield item
            took = time.monotonic() - began - loop.inner_wall
            timing.memory.ends(loop.scale)
            if images or (batches and distributed.world_size() > 1):  # a share may be empty; all answer alike
                _grow(timing, loop.path, images, whole, took)
            timing.turned(loop)
        ended = True
    finally:
        if not (ended or timing.failed or loop.ended):  # its user broke out of it, as the run would
            loop.total = len(loop.done) + 1
        timing.leave(loop)


def _grow(timing: Timing, path: tuple[str, ...], images: int, whole: int, took: float) -> None:
    """How many images of the next batches are taken: all where time and memory allow it. Shares of one batch may differ
    by an image: process 0 decides, and all ask it.
    """
    if path in timing.full:
        return
    room = min(whole, int(images * min(STEP_S / max(took, 1e-3), timing.memory.room())))
    take = max(images, room)
    if distributed.agree(take >= whole):
        timing.full.add(path)
        timing.scaled.pop(path, None)
    elif images < whole:
        timing.scaled[path] = (take if distributed.world_size() == 1 else images, whole)


def part_of(batch: Any, whole: int, images: int) -> Any:
    """The first ``images`` of a batch, or as large a part of each of its shares (LEAST / 2 of each at least)."""
    if images >= whole:
        return batch
    if isinstance(batch, list):
        each = max(LEAST // 2, images // max(1, len(batch)))
        return [tuple(thing[:each] for thing in share) for share in batch]
    return tuple(thing[:images] for thing in batch)


def rehearse(function: Callable[[Any, Any], Any], settings: Any, options: Any) -> Timing:
    """Rehearse a verb's function. Raises UserError where the run would, until the first loop was left early."""
    from common.run import files, folder, progress

    timing = Timing(Memory())

    def opened(options: Any, settings: Any, extra: dict[str, Any]) -> Rehearsal:
        return Rehearsal(options, settings, extra, timing)

    whole, worked = timing.loops[0], process_time()
    timing.turn(whole, 0, timing.started)
    with files.nothing_written(), folder.opened_by(opened), progress.walked_by(
        lambda items, total, name: few(timing, items, total, name)
    ):  # fmt: skip
        try:
            function(settings, options)
        except UserError as error:
            timing.failed = True
            if not timing.cut:
                raise
            timing.notes.append(f"what follows the last loop was not rehearsed ({error})")
        except Exception as error:  # of what a shortened loop left behind
            timing.failed = True
            if not timing.cut or isinstance(error, MemoryError) or "memory" in str(error).lower():
                raise
            timing.notes.append(f"what follows the last loop was not rehearsed ({type(error).__name__})")
    while len(timing.loops) > 1:
        timing.leave(timing.loops[-1])
    timing.turned(whole)
    timing.share = (process_time() - worked) / max(time.monotonic() - timing.started, 1e-9)
    return timing
