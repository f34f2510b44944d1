"""What a reader sees while a run goes on: a bar for every loop on a terminal; elsewhere plain lines, one in 30 seconds.

Only process 0 speaks, and on standard error: standard output holds results alone.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from common.run import distributed
from common.run.device import device_name
from common.settings import to_dict

LINE_EVERY_S = 30.0  # off a terminal, a long loop says where it stands this often
FIRST_LINE_S = 5.0  # and for the first time after so long

_loops: list[Progress] = []  # that are being shown, outermost first
Walk = Callable[[Iterable[Any], int, str], Iterator[Any]]
_walks: list[Walk] = []
_next_line = [0.0]  # when one may be printed; set by the first loop


def say(line: str, rehearsed: bool = False) -> None:
    """A line for the reader, on standard error, beside any progress bar; process 0 only.

    rehearsed: whether it is said in a rehearsal too, which is silent about what the run would say.
    """
    if distributed.rank() == 0 and (rehearsed or not _walks):
        if sys.stderr.isatty():
            from tqdm import tqdm

            tqdm.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)


def beginning(options: Any, settings: Any) -> str:
    """What begins: "evnas train: EvNASA on digits, profile smoke, seed 0, CPU with 2 threads, into FOLDER"."""
    values = to_dict(settings)
    words = [str(values[name]) for name in ("arch", "dataset", "text") if values.get(name)]
    who, world = f"{options.paper} {options.section.replace('_', ' ')}", distributed.world_size()
    return ", ".join([
        f"{who}: {' on '.join(words)}" if words else who, f"profile {options.profile}", f"seed {options.seed}",
        *([f"{world} processes"] if world > 1 else []), device_name(options), f"into {options.folder}",
    ])  # fmt: skip


class Progress:
    """One loop as it is shown: ``what`` number ``start`` to ``total`` - 1.

    ``number`` counts the turns that are done, and so is the present one's as histories count it, from 0.
    """

    def __init__(self, what: str, total: int, start: int = 0) -> None:
        self.what, self.total, self.number, self.first = what, total, start, start
        self.images = 0
        self.started = self.turned = time.monotonic()
        self.shown = distributed.rank() == 0
        self.bar: Any = None
        if not self.shown:
            return
        if not _next_line[0]:
            _next_line[0] = self.started + FIRST_LINE_S
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, desc=what, initial=start, leave=False, position=len(_loops))
        _loops.append(self)

    def done(self, batch: Any = None) -> None:
        """One more is done; ``batch`` (images, labels) is counted where it is one."""
        self.number += 1
        if not self.shown:
            return
        self.images += images_of(batch)
        now = self.turned = time.monotonic()
        if self.bar is not None:
            if self.images:
                self.bar.set_postfix_str(f"{self.rate(now):.0f} images/s", refresh=False)
            self.bar.update(1)
        elif now >= _next_line[0]:
            _next_line[0] = now + LINE_EVERY_S
            print(_line(now), file=sys.stderr, flush=True)

    def rate(self, now: float) -> float:
        """Images a second in this loop."""
        return self.images / max(now - self.started, 1e-9)

    def left(self, now: float) -> float | None:
        """Seconds until the loop is over, as its turns so far were; None before the first is done."""
        turns = self.number - self.first
        if not turns:
            return None
        return max(0.0, (self.turned - self.started) / turns * (self.total - self.number) - (now - self.turned))

    def close(self) -> None:
        """The loop has ended, or was left."""
        if self.bar is not None:
            self.bar.close()
        if self in _loops:
            del _loops[_loops.index(self) :]


def _line(now: float) -> str:
    """Where all loops stand: "epoch 3 of 50, step 120 of 391: 812 images/s, 4 min left, 3.1 h in all"."""
    places = ", ".join(f"{loop.what} {loop.number} of {loop.total}" for loop in _loops)
    inner, outer = _loops[-1], _loops[0]
    said = [f"{inner.rate(now):.0f} images/s"] if inner.images else []
    left, in_all = inner.left(now), outer.left(now)
    if left is not None:
        said.append(f"{span(left)} left")
    if in_all is not None and outer is not inner:
        said.append(f"{span(max(in_all, left or 0.0))} in all")
    return f"{places}: {', '.join(said)}" if said else places


def watched(items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    """``items``, ``total`` of them, with the progress of going through them shown."""
    if _walks:
        yield from _walks[-1](items, total, what)
        return
    progress = Progress(what, total)
    try:
        for item in items:
            yield item
            progress.done(item)
    finally:
        progress.close()


@contextlib.contextmanager
def walked_by(walk: Walk) -> Iterator[None]:
    """Inside, ``watched`` gives what ``walk`` makes of its arguments: a rehearsal goes few turns."""
    _walks.append(walk)
    try:
        yield
    finally:
        _walks.remove(walk)


def shows(batches: Any, what: str, epoch: int = 0) -> Iterator[Any]:
    """One pass over ``batches`` (an object with ``epoch(number, start)`` and a length), its progress shown."""
    return watched(batches.epoch(epoch, 0), len(batches), what)


def images_of(batch: Any) -> int:
    """Images of (images, labels), or of a list of such shares; 0 for anything else."""
    shares = batch if isinstance(batch, list) else [batch]
    pairs = all(isinstance(share, tuple) and len(share) > 1 and hasattr(share[1], "__len__") for share in shares)
    return sum(len(share[1]) for share in shares) if pairs else 0


def span(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def short(value: Any) -> str:
    """A value of a history as it is shown."""
    if isinstance(value, float):
        return f"{value:.5g}"
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."
