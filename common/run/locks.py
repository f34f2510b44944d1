"""Files that one process at a time holds, on Linux, macOS and Windows; a lock ends with the process that holds it.

The file stays where it is, for a file that is taken away could be locked twice. It names the holder's process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import lock_descriptor


@contextlib.contextmanager
def lock(path: Path, busy: Callable[[str], object], needed: bool = True) -> Iterator[None]:
    """Hold the lock file ``path`` against other processes, and against other holders in this one.

    busy: called with the number of the process that holds it ("unknown" where that cannot be read); it raises, or
    returns to wait. needed: False goes on without a lock on a disk that knows none. Raises OSError where the file
    cannot be made, and where a lock is needed on such a disk.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            free = lock_descriptor(handle, blocking=False)
        except OSError:
            if needed:
                raise
        else:
            if not free:
                busy(_holder(handle))
                lock_descriptor(handle)
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, f" {os.getpid()}\n".encode())
        yield
    finally:
        os.close(handle)


def _holder(handle: int) -> str:
    """The number that the holder wrote, after the first byte: Windows lets no one else read that one."""
    try:
        os.lseek(handle, 1, os.SEEK_SET)
        return os.read(handle, 32).decode(errors="replace").strip() or "unknown"
    except OSError:
        return "unknown"
