"""Ctrl-C and SIGTERM: what is at work is saved first, and a command ends with one line."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from common.errors import Stopped

INTERRUPTED, STOPPED = 130, 143  # exit statuses, as shells have them
KINDS: dict[int, tuple[type[BaseException], int, str]] = {
    signal.SIGINT: (KeyboardInterrupt, INTERRUPTED, "interrupted"),
    signal.SIGTERM: (Stopped, STOPPED, "stopped by SIGTERM"),
}
_starting = [False]


@contextlib.contextmanager
def heard(starting: bool = False) -> Iterator[None]:
    """Inside, both signals raise KeyboardInterrupt or ``Stopped``, once a run that is at work has saved.

    starting: until ``begins`` is called they end the process with one line, whatever is being imported: an exception
    inside an import may be swallowed or turned into another. A signal that the process ignores stays ignored.
    """
    _forget()
    before = {number: signal.getsignal(number) for number in KINDS}
    _starting[0] = starting
    with contextlib.suppress(ValueError):  # not in the main thread
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _hear)
    try:
        yield
    finally:
        _starting[0] = False
        _forget()
        for number, handler in before.items():
            with contextlib.suppress(ValueError, TypeError):
                signal.signal(number, handler)


def begins() -> None:
    """The work begins; what it has to clean up it will."""
    _starting[0] = False


def _hear(number: int, _: Any) -> None:
    kind, status, words = KINDS[number]
    if _starting[0]:
        sys.stderr.write(f"error: {words} before anything had begun\n")
        sys.stderr.flush()
        os._exit(status)
    keep = sys.modules.get("common.run.keep")  # which --help does not need
    if keep is None:
        raise kind
    keep.ask(kind())


def _forget() -> None:
    if (keep := sys.modules.get("common.run.keep")) is not None:
        keep.forget()
